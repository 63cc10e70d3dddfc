"""`report.html`: a whole run on one page, which needs nothing but itself."""

import re
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.containers.container import Container
from layerflow.report import results, sections
from layerflow.report.findings import Findings, find
from layerflow.report.markup import panel, text
from layerflow.report.reading import Evidence, read_curves
from layerflow.runs.files import write_atomically
from layerflow.runs.records import Run, read_run
from layerflow.training.evaluation import predict_scores

COMPLETE = ("finished", "stopped early")


def write_report(experiment: Experiment, folder: Path) -> None:
    """Write the report of a run that ended, well or badly, into its folder.

    Confusion and worst samples are part of it when training came to its end: they are those of the kept weights.
    """
    run = read_run(folder)
    findings = find(experiment) if run.outcome in COMPLETE else None
    page = report(run, experiment, findings).encode()
    write_atomically(folder / "report.html", page)


def report(run: Run, experiment: Experiment, findings: Findings | None) -> str:
    """Return the page."""
    title = f"{experiment.config.name} / {run.folder.name}"
    body = [
        sections.header(run, title),
        sections.cards(run, findings, experiment.trainer.epochs),
        text("h2", "What the curves suggest"),
        sections.reading(read_curves(evidence(run, findings))),
    ]
    if run.records:
        body += [text("h2", "Curves"), sections.curves(run, findings.baseline if findings else {})]
    if findings:
        body += [results.results(findings), results.worst(findings, experiment.parts.preprocessing.features)]
    body += [text("h2", "Model"), summary(experiment), text("h2", "Run it again"), sections.provenance(run)]
    version = run.facts.get("versions", {}).get("layerflow", "")
    body.append(text("footer", f"Written by layerflow {version}."))
    page, style, script = (
        files("layerflow.report").joinpath("page", f"report.{kind}").read_text("utf-8")
        for kind in ("html", "css", "js")
    )
    parts = {"TITLE": escape(title), "STYLE": style, "SCRIPT": script, "BODY": "\n".join(body)}
    return re.sub("<!--([A-Z]+)-->", lambda found: parts[found[1]], page)


def evidence(run: Run, findings: Findings | None) -> Evidence:
    """Return what the readings look at."""
    known = {
        "records": run.records,
        "outcome": run.outcome,
        "error": str(run.facts.get("error", "")),
        "watched": str(run.best.get("metric", "train_loss")),
    }
    if findings is None:
        return Evidence(**known)  # type: ignore[arg-type]
    return Evidence(
        **known,  # type: ignore[arg-type]
        part=findings.part,
        samples=findings.size,
        results=findings.results,
        baseline=findings.baseline,
        confusion=findings.confusion,
        classes=findings.classes,
    )


def summary(experiment: Experiment) -> str:
    """Return the model's gates, shapes and numbers of parameters, with what is minimised and how."""
    plain = experiment.config.resolve()
    batch, _ = next(experiment.trainer.batches.epoch(0))
    with np.errstate(all="ignore"):  # weights of a run that diverged may be anything
        predict_scores(experiment.model, batch, experiment.trainer.dtype)  # shapes are those of the batch last seen
    gates = experiment.model.summary() if isinstance(experiment.model, Container) else repr(experiment.model)
    parts = {"objective": [plain["loss"], *_listed(plain["regularizer"])]}
    parts |= {name: _listed(plain[name]) for name in ("optimizer", "schedule")}
    told = "\n".join(f"{name}  {' + '.join(map(_call, given)) or 'none'}" for name, given in parts.items())
    return panel(text("pre", f"{gates}\n\n{told}"))


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]


def _call(element: Any) -> str:
    """Return an element of a configuration as Python would write it, without what is left at nothing."""
    if not isinstance(element, dict):
        return f"{element}()"
    given = [f"{key}={_argument(value)}" for key, value in element.items() if key != "type" and value]
    return f"{element.get('type', 'dict')}({', '.join(given)})"


def _argument(value: Any) -> str:
    return _call(value) if isinstance(value, dict) else repr(value)
