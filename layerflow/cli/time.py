"""`layerflow time`: measures where a training step spends its time, and estimates the whole training."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from layerflow.cli import add_command, add_config_options, load_configs
from layerflow.cli.output import as_table
from layerflow.config.experiment import Experiment
from layerflow.preflight.timing import Timing, measure

EXAMPLES = """\
  layerflow time configs/digits_mlp.yaml
  layerflow time configs/digits_mlp.yaml train.batch_size=256 --json
"""

LONGEST_GATE = 44
UNITS = ("bytes", "kB", "MB", "GB")


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        subparsers, common, "time", "time a few real training steps, gate by gate; write nothing", EXAMPLES
    )
    add_config_options(parser, many=True)
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure each configuration."""
    texts, facts = [], []
    for config in load_configs(arguments):
        experiment = Experiment(config)
        timing = measure(experiment)
        texts.append(as_text(config.source, timing, type(experiment.trainer.optimizer).__name__))
        estimates = {"rest": timing.rest, "epoch_seconds": timing.epoch_seconds, "run_seconds": timing.run_seconds}
        facts.append({"config": config.source, "unit": "ms", **asdict(timing), **estimates})
    print(json.dumps(facts, indent=2) if arguments.json else "\n\n".join(texts))
    return 0


def as_text(source: str, timing: Timing, optimizer: str) -> str:
    """Return the measurements as text."""
    total = timing.data + timing.step
    rows = [("", "forward ms", "backward ms", "share", "memory", "output")]
    for gate in timing.gates:
        written = gate.gate if len(gate.gate) <= LONGEST_GATE else f"{gate.gate[: LONGEST_GATE - 3]}..."
        times = f"{gate.forward:.4f}", f"{gate.backward:.4f}", f"{gate.share:.1%}"
        shape = " x ".join(map(str, gate.shape)) or "1"
        rows.append((f"{gate.name}  {written}", *times, in_bytes(gate.memory), shape))
    others = {"making the batch": timing.data, f"optimizer  {optimizer}": timing.optimizer, "the rest": timing.rest}
    rows += [(name, f"{value:.4f}", "", f"{value / total:.1%}", "", "") for name, value in others.items()]
    rows.append(("a step", f"{total:.4f}", "", "100.0%", in_bytes(timing.activation_bytes), ""))
    each = f"{timing.steps} step(s) of {timing.batch_size} samples"
    each += f" and {timing.validation:.1f} ms of validation" if timing.validation else ""
    return "\n".join([
        f"{source}: {total:.3f} ms per step (medians of {timing.rounds})",
        as_table(rows, indent="  "),
        f"  memory    parameters and gradients {in_bytes(timing.parameter_bytes)}, "
        f"{optimizer} {in_bytes(timing.optimizer_bytes)}, "
        f"activations of a step {in_bytes(timing.activation_bytes)}",
        f"  training  {timing.epochs} epochs of {each}: about {in_seconds(timing.run_seconds)}",
    ])  # fmt: skip


def in_bytes(size: float) -> str:
    """Return a size in a readable unit."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {UNITS[unit]}"


def in_seconds(seconds: float) -> str:
    """Return a time in a readable unit."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
