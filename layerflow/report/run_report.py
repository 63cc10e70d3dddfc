"""`report.html`: a whole run on one page, which needs nothing but itself."""

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from layerflow.config.experiment import Experiment
from layerflow.containers.container import Container
from layerflow.report import sections
from layerflow.report.findings import Findings, find
from layerflow.report.reading import Evidence, read_curves
from layerflow.report.runs import Run, read_run
from layerflow.training.storage import write_atomically

COMPLETE = ("finished", "stopped early")


def write_report(experiment: Experiment, folder: Path) -> None:
    """Write the report of a run that ended, well or badly, into its folder.

    Confusion and worst samples are part of it when training came to its end: they are those of the kept weights.
    """
    run = read_run(folder)
    findings = find(experiment) if run.outcome in COMPLETE else None
    page = report(run, experiment, findings).encode()
    write_atomically(folder / "report.html", lambda file: file.write(page))


def report(run: Run, experiment: Experiment, findings: Findings | None) -> str:
    """Return the page."""
    title = f"{experiment.config.name} / {run.folder.name}"
    style, script = (files("layerflow.report").joinpath("page", name).read_text("utf-8") for name in ("report.css", "report.js"))
    body = [
        sections.header(run, title),
        sections.cards(run, findings, experiment.trainer.epochs),
        "<h2>What the curves suggest</h2>",
        sections.reading(read_curves(evidence(run, findings))),
    ]
    if run.records:
        body += ["<h2>Curves</h2>", sections.curves(run, findings.baseline if findings else {})]
    if findings:
        body += [sections.results(findings), sections.worst(findings, experiment.parts.preprocessing.features)]
    body += [summary(experiment), sections.provenance(run, run.config_text)]
    version = escape(str(run.facts.get("versions", {}).get("layerflow", "")))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">"
        f'<title>{escape(title)}</title><style>{style}</style></head><body><main>{"".join(body)}'
        f"<footer>Written by layerflow {version}.</footer></main><script>{script}</script></body></html>\n"
    )


def evidence(run: Run, findings: Findings | None) -> Evidence:
    """Return what the readings look at."""
    known = {
        "records": run.records,
        "outcome": run.outcome,
        "error": str(run.facts.get("error", "")),
        "watched": str(run.best.get("metric", "training_loss")),
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
    """Return the model's gates, shapes and numbers of parameters, with the loss and what is added to it."""
    plain = experiment.config.resolve()
    gates = experiment.model.summary() if isinstance(experiment.model, Container) else repr(experiment.model)
    parts = {"objective": [plain["loss"], *_listed(plain["regularizer"])], "optimizer": [plain["optimizer"]], "schedule": _listed(plain["schedule"])}
    told = "\n".join(f"{name}  {' + '.join(map(_call, given)) or 'none'}" for name, given in parts.items())
    return f'<h2>Model</h2><div class="panel"><pre>{escape(gates)}\n\n{escape(told)}</pre></div>'


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]


def _call(element: Any) -> str:
    """An element of a configuration as one would write it in Python, without what is left at nothing."""
    if not isinstance(element, dict):
        return str(element)
    given = [f"{key}={_call(value)}" for key, value in element.items() if key != "type" and value not in (None, False, 0)]
    return f"{element.get('type', 'dict')}({', '.join(given)})"
