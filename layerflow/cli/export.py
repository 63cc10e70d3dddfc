"""`layerflow export`: write a trained model in a form that needs no layerflow."""

import argparse
import sys
from typing import Any

from layerflow.cli import add_command, add_model_argument
from layerflow.cli.output import add_output_options, check_output
from layerflow.config import Registry
from layerflow.errors import ConfigError
from layerflow.interop.deployment import FORMATS, export_run
from layerflow.runs.model import SavedModel

EXAMPLES = """\
  layerflow export runs/iris/001 -o iris.onnx           for onnxruntime; scaling and class names included
  layerflow export runs/iris/001 -o iris.py             one Python file that needs NumPy alone
  layerflow export runs/iris/001 -o iris.c              one C file for a sample at a time, static memory
  layerflow export runs/iris/001 -o iris.safetensors    the weights
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        subparsers, common, "export", "write a trained model as ONNX, as a Python or C file, or its weights", EXAMPLES
    )
    add_model_argument(parser)
    add_output_options(parser, f"the file; its ending says the form: {', '.join(FORMATS)}")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export, and say what was written."""
    if arguments.output is None:
        raise ConfigError(f"export writes a file: name it with -o; its ending, {', '.join(FORMATS)}, says the form")
    check_output(arguments.output, arguments.force, [arguments.model, arguments.model / "model.npz"])
    saved = SavedModel.load(arguments.model, Registry.builtin(arguments.imports))
    print(f"{arguments.output}: {export_run(saved, arguments.output)}", file=sys.stderr)
    return 0
