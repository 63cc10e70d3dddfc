"""`layerflow schema`: the JSON Schema of configurations."""

import argparse
import json
from typing import Any

from layerflow.cli import add_command, add_import_option
from layerflow.config import Registry, json_schema

EXAMPLES = """\
  layerflow schema > layerflow.schema.json
  layerflow schema --import my_layers.py > layerflow.schema.json
an editor with a YAML language server completes a file that begins with
  # yaml-language-server: $schema=layerflow.schema.json
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, common, "schema", "print the JSON Schema of configurations, for completion in editors", EXAMPLES
    )
    add_import_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(Registry.builtin(arguments.imports)), indent=2))
    return 0
