"""`layerflow summary`: the gates of a model with shapes and parameter counts."""

import argparse
import json
from typing import Any

from layerflow.cli import add_command, add_config_options, load_configs
from layerflow.config.experiment import Experiment
from layerflow.containers.container import Container

EXAMPLES = """\
  layerflow summary configs/digits_mlp.yaml
  layerflow summary configs/digits_mlp.yaml model.0.out_features=128
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        subparsers, common, "summary", "show the gates of a model, their shapes and parameters", EXAMPLES
    )
    add_config_options(parser, many=True)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of each model."""
    tables, facts = [], []
    for config in load_configs(arguments):
        experiment = Experiment(config, engine="numpy")
        experiment.prepare()
        assert isinstance(experiment.model, Container)
        tables.append(f"{config.source}\n{experiment.model.summary()}")
        size = experiment.trainer.state.store.size
        facts.append({"config": config.source, "gates": gates_of(experiment.model), "parameters": size})
    print(json.dumps(facts, indent=2) if arguments.json else "\n\n".join(tables))
    return 0


def gates_of(model: Container) -> list[dict[str, Any]]:
    """Return name, type, output shape and parameter shapes of each gate."""
    return [
        {
            "name": step.name,
            "type": type(step.gate).__name__,
            "gate": repr(step.gate),
            "output_shape": list(model.shapes[step.writes[0]]),
            "parameters": {name: list(item.value.shape) for name, item in step.gate.named_parameters().items()},
        }
        for step in model.steps
    ]
