"""`layerflow check`: check configurations and their data before training; nothing is written."""

import argparse
import sys
from typing import Any

import numpy as np

from layerflow.cli import EXIT_CHECK_FAILED, add_command, add_config_options, describe, exit_code, load_configs
from layerflow.config.experiment import Experiment
from layerflow.containers import Sequential
from layerflow.engine.choice import ENGINES
from layerflow.gate import Gate
from layerflow.preflight import Finding, preflight
from layerflow.runs.files import to_json
from layerflow.training.evaluation import EVALUATION_BATCH, counted_labels

EXAMPLES = """\
  layerflow check configs/*.yaml
  layerflow check configs/digits_mlp.yaml model.0.out_features=128
  layerflow check configs/digits_mlp.yaml --quick
"""

LONGEST_LIST = 12


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        subparsers,
        common,
        "check",
        "check configurations, data and shapes, and find common mistakes before training; write nothing",
        EXAMPLES,
    )
    add_config_options(parser, many=True)
    parser.add_argument(
        "--quick", action="store_true", help="check configuration, data and shapes only, without the preflight"
    )
    parser.add_argument(
        "--engine", choices=ENGINES, help="check that this engine can run the model (default: train.engine, else numpy)"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check each configuration, also after one that fails."""
    found: list[dict[str, Any]] = []
    code = 0
    for config in load_configs(arguments):
        try:
            experiment = Experiment(config, engine=arguments.engine or config.train.engine)
            facts = facts_of(experiment)
            if not arguments.quick:
                findings = preflight(config, experiment.parts)
                facts["findings"] = [vars(finding) for finding in findings]
                code = max(code, EXIT_CHECK_FAILED * any(finding.verdict == "error" for finding in findings))
            found.append(facts)
        except Exception as error:
            if arguments.debug:
                raise
            code = max(code, exit_code(error))
            message = describe(error, config.source)
            found.append({"config": config.source, "error": message})
            print(message, file=sys.stderr)
    shown = [facts for facts in found if "error" not in facts]
    if arguments.json or shown:
        print(to_json(found, indent=2) if arguments.json else "\n\n".join(map(as_text, shown)))
    return code


def facts_of(experiment: Experiment) -> dict[str, Any]:
    """Build everything that a configuration describes, and return the facts about it."""
    experiment.prepare()
    config, parts, trainer = experiment.config, experiment.parts, experiment.trainer
    classes = parts.preprocessing.classes
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    rows = np.arange(min(len(parts.train), EVALUATION_BATCH))
    assert parts.train.y is not None
    y = counted_labels(experiment.loss, parts.train.y)
    return {
        "config": config.source,
        "data": parts.train.name,
        "samples": {name: len(part) for name, part in named.items() if part is not None},
        "shape": list(parts.preprocessing.sample_shape),
        "notes": list(parts.train.notes),
        "classes": None
        if classes is None
        else dict(zip(classes, np.bincount(y, minlength=len(classes)).tolist(), strict=True)),
        "model": one_line(experiment.model),
        "parameters": trainer.state.store.values.size,
        **engine_facts(experiment),
        "loss": type(experiment.loss).__name__,
        "loss_at_start": experiment.evaluate(parts.train.take(rows))["loss"],
        "optimizer": config.resolve()["optimizer"],
        "epochs": trainer.epochs,
        "steps_per_epoch": len(trainer.state.batches),
        "batch_size": trainer.batch_size,
    }


def engine_facts(experiment: Experiment) -> dict[str, str]:
    """What another engine than NumPy has compiled a step for."""
    engine = experiment.trainer.state.engine
    return {"engine": f"{engine.name}, {engine.machine}"} if engine.machine else {}


def one_line(model: Gate) -> str:
    """Return the gates of a model on one line."""
    if not isinstance(model, Sequential):
        return f"{type(model).__name__} of {', '.join(model.members())}"
    names = [repr(gate).removesuffix("()") for gate in model]
    shown = names if len(names) <= LONGEST_LIST else [*names[: LONGEST_LIST - 2], "...", names[-1]]
    return " -> ".join(shown)


def as_text(facts: dict[str, Any]) -> str:
    """Return the facts as text."""
    samples = ", ".join(f"{count:,} {name}" for name, count in facts["samples"].items())
    findings = [Finding(**values) for values in facts.get("findings", ())]
    lines = [f"{facts['config']}: {judgement(findings)}"]
    lines += [f"  data      {facts['data']}: samples of shape {tuple(facts['shape'])}: {samples}"]
    lines += [f"            {note}" for note in facts["notes"]]
    if facts["classes"]:
        named = {name if name.isprintable() else repr(name): count for name, count in facts["classes"].items()}
        counts = [f"{name} ({count:,})" for name, count in named.items()]
        more = [f"... ({len(counts)} in all)"] if len(counts) > LONGEST_LIST else []
        lines += [f"  classes   {', '.join(counts[:LONGEST_LIST] + more)}"]
    lines += [f"  model     {facts['model']}", f"            {facts['parameters']:,} parameters"]
    lines += [f"  engine    {facts['engine']}"] if "engine" in facts else []
    lines += [f"  loss      {facts['loss']}, {facts['loss_at_start']:.4g} before the first step"]
    optimizer = facts["optimizer"]
    written = optimizer if isinstance(optimizer, str) else f"{optimizer['type']}, lr {optimizer.get('lr')}"
    steps = f"{facts['epochs']} epochs of {facts['steps_per_epoch']} step(s), batches of {facts['batch_size']}"
    lines += [f"  training  {steps}; {written}"]
    return "\n".join([*lines, *map(as_lines, findings)])


def judgement(findings: list[Finding]) -> str:
    """Return the number of findings by verdict, such as '1 error, 2 warnings'."""
    counts = [(sum(finding.verdict == verdict for finding in findings), verdict) for verdict in ("error", "warning")]
    return (
        ", ".join(f"{count} {verdict}{'s' * (count > 1)}" for count, verdict in counts if count) or "no problems found"
    )


def as_lines(finding: Finding) -> str:
    """Return a finding on one line: verdict, check, number and evidence; and the remedy on a second line."""
    number = "" if finding.number is None else f"{finding.number:.3g}"
    line = f"  {finding.verdict:<7}  {finding.check:<18} {number:>9}  {finding.evidence}"
    return f"{line}\n{'':40}-> {finding.remedy}" if finding.remedy else line
