"""The parts of a report that tell of the run: its outcome, its curves, and how to run it again."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from layerflow.report.charts import Curve, chart
from layerflow.report.findings import Findings
from layerflow.report.markup import element, note, panel, row, text, words
from layerflow.report.reading import standard_error
from layerflow.runs.records import Run

TONES = {"finished": "", "stopped early": "", "interrupted": "warn", "running": "warn"}
ABBREVIATIONS = ("rmse", "mae", "r2", "f1")


def header(run: Run, title: str) -> str:
    """Name, outcome and time."""
    when = str(run.facts.get("started", "")).replace("T", " ").replace("+00:00", " UTC")
    outcome = text("span", run.outcome, kind=f"outcome {TONES.get(run.outcome, 'bad')}".strip())
    return element("header", text("h1", title) + outcome + text("span", when, kind="when"))


def cards(run: Run, findings: Findings | None, epochs_planned: int) -> str:
    """The numbers that one looks for first."""
    shown = [_result(findings, name) for name in findings.results] if findings else []
    if best := run.best:
        shown.append(("best epoch", str(best["epoch"]), f"{words(str(best['metric']))} {best['value']:.4g}"))
    seconds = sum(record.get("seconds", 0.0) for record in run.records)
    shown.append(("epochs", str(len(run.records)), f"of {epochs_planned} · {seconds:.1f} s of training"))
    return panel(
        "".join(
            panel(text("span", label, kind="quiet") + text("b", value) + text("span", below, kind="quiet"), "card")
            for label, value, below in shown
        ),
        "cards",
    )


def reading(sentences: Sequence[str]) -> str:
    """What the curves suggest."""
    if not sentences:
        return panel("Nothing in these curves stands out.", "panel reading")
    listed = element("ul", "".join(text("li", sentence) for sentence in sentences))
    return panel(listed + note("Rules of thumb on the numbers below: hints, not proofs."), "panel reading")


def curves(run: Run, baseline: Mapping[str, float]) -> str:
    """Losses and metrics over the epochs; below them learning rate, and the sizes of gradients and updates."""
    first, epochs, marked = run.records[0], [record["epoch"] for record in run.records], run.best.get("epoch")

    def column(name: str) -> list[float]:
        return [float(record.get(name, math.nan)) for record in run.records]

    def curves_of(name: str) -> list[Curve]:
        known = [(part, role, f"{part}_{name}") for part, role in (("train", "training"), ("val", "validation"))]
        known += [("with regularizers", "faint", "train_objective")] * (name == "loss")
        return [Curve(label, role, column(key)) for label, role, key in known if key in first]

    def single(title: str, label: str, values: list[float]) -> str:
        return chart(title, epochs, [Curve(label, "plain", values)], marked)

    names = [name.removeprefix("train_") for name in first if name.startswith("train_")]
    names = [name for name in names if name != "objective"]
    large = [chart(_title(name), epochs, curves_of(name), marked, baseline.get(name)) for name in names]
    small = [single("Learning rate", "rate", column("lr"))]
    if "gradient_norm" in first:
        updates, parameters = column("update_norm"), column("parameter_norm")
        ratio = [u / p if p else math.nan for u, p in zip(updates, parameters, strict=True)]
        small.append(single("Gradient norm", "last step", column("gradient_norm")))
        small.append(single("Relative update", "update norm / parameter norm, last step", ratio))
    mark = "The dashed line marks the epoch whose weights were kept. " if marked else ""
    columns = "three" if len(large) % 3 == 0 else "two"
    rows = panel("".join(large), f"charts {columns}") + panel("".join(small), "charts small")
    return rows + note(f"{mark}Point at a curve for its numbers.")


def provenance(run: Run) -> str:
    """What was run, on what, and how to run it again."""
    imports = [word for file in run.facts.get("imports", ()) for word in ("--import", str(file))]
    again = ["layerflow", "train", str(run.folder / "config.yaml"), "--name", run.folder.parent.name, *imports]
    command = ["layerflow", *map(str, run.facts.get("command", [])[1:])]
    data = run.facts.get("data", {})
    facts = {
        "ran as": shlex.join(command),
        "seed": run.facts.get("seed"),
        "data": data.get("name"),
        "checksum": data.get("checksum"),
        "samples": ", ".join(f"{size:,} {part}" for part, size in data.get("samples", {}).items()),
        **run.facts.get("versions", {}),
    }
    rows = "".join(_fact(key, value) for key, value in facts.items() if value not in (None, ""))
    config = text("summary", "config.yaml: every setting, defaults included") + panel(text("pre", run.config_text))
    return (
        panel(text("pre", shlex.join(again)), "command")
        + panel(element("table", rows, kind="facts"))
        + element("details", config)
    )


def _result(findings: Findings, name: str) -> tuple[str, str, str]:
    value, guess = findings.results[name], findings.baseline.get(name)
    below = f"{findings.size:,} samples" if guess is None else f"constant guess {guess:.4g}"
    if name == "accuracy":
        below += f" · standard error {standard_error(value, findings.size):.3f}"
    return f"{findings.part} {words(name)}", f"{value:.4g}", below


def _fact(key: str, value: Any) -> str:
    return row("th", [key]).removesuffix("</tr>") + text("td", value) + "</tr>"


def _title(name: str) -> str:
    return name.upper() if name in ABBREVIATIONS else words(name).capitalize()
