"""`layerflow graph`: the computation graph of a configuration's whole objective, as a picture or as text."""

import argparse
from typing import Any

from layerflow.cli import add_command, add_config_options, load_configs
from layerflow.cli.output import add_output_options, check_output
from layerflow.config.experiment import Experiment
from layerflow.errors import ConfigError
from layerflow.report.graph import draw, explain_gate, plain_text

EXAMPLES = """\
  layerflow graph configs/digits_mlp.yaml
  layerflow graph configs/digits_residual.yaml -o residual.html --values
  layerflow graph configs/digits_mlp.yaml --gate loss
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    summary = "draw the graph of model, loss and regularizers, or explain one gate of it"
    parser = add_command(subparsers, common, "graph", summary, EXAMPLES)
    add_config_options(parser)
    add_output_options(
        parser, "a picture: .svg, .png, .html (steps through both sweeps), .dot, .mmd or .txt; without it, print text"
    )
    parser.add_argument(
        "--values", action="store_true", help="run the first training batch and show the values and gradients"
    )
    parser.add_argument("--gate", metavar="NAME", help="explain one gate in the numbers of the first training batch")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw or print."""
    if arguments.gate and arguments.output:
        raise ConfigError("--gate prints text and cannot be combined with -o")
    if arguments.output:
        check_output(arguments.output, arguments.force, [*arguments.configs, *arguments.imports])
    config, *others = load_configs(arguments)
    if others:
        raise ConfigError(f"graph draws one configuration at a time; {len(others) + 1} were given")
    experiment = Experiment(config, engine="numpy")
    experiment.prepare()
    state = experiment.trainer.state
    objective = state.objective
    if arguments.values or arguments.gate:  # forward and backward on the first training batch, without an update
        objective.forward(*next(state.batches.epoch(0)))
        objective.backward()
    if arguments.gate:
        print(explain_gate(objective, arguments.gate), end="")
    elif arguments.output:
        print(draw(objective, arguments.output, values=arguments.values))
    else:
        print(plain_text(objective, values=arguments.values), end="")
    return 0
