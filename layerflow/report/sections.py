"""The parts of a run's report, as HTML. Everything that comes from files and data is escaped."""

import math
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.report.charts import Curve, chart, scatter
from layerflow.report.findings import Findings
from layerflow.report.pictures import as_images, png_address
from layerflow.report.reading import standard_error
from layerflow.report.runs import Run
from layerflow.training.metrics import precision_recall_f1

LARGEST_CONFUSION = 40
MOST_CONFUSED = 15
MOST_COLUMNS = 12
MOST_DOTS = 2000
TONES = {"finished": "", "stopped early": "", "interrupted": "warn", "running": "warn"}


def header(run: Run, title: str) -> str:
    """Name, outcome and time."""
    tone = TONES.get(run.outcome, "bad")
    return (
        f'<header><h1>{escape(title)}</h1><span class="outcome {tone}">{escape(run.outcome)}</span>'
        f'<span class="when">{escape(str(run.facts.get("started", "")).replace("T", " ").replace("+00:00", " UTC"))}</span></header>'
    )


def cards(run: Run, findings: Findings | None, epochs_planned: int) -> str:
    """The numbers that one looks for first."""
    shown = []
    if findings:
        for name, value in findings.results.items():
            guess = findings.baseline.get(name)
            error = f" ± {standard_error(value, findings.size):.3f}" if name == "accuracy" else ""
            below = f"constant guess {guess:.4g}" if guess is not None else f"{findings.size:,} samples"
            shown.append((f"{findings.part} {_words(name)}", f"{value:.4g}", f"{below}{error and f' · standard error{error[2:]}'}"))
    if best := run.best:
        shown.append(("best epoch", str(best["epoch"]), f"{_words(str(best['metric']))} {best['value']:.4g}"))
    seconds = sum(record.get("seconds", 0.0) for record in run.records)
    shown.append(("epochs", f"{len(run.records)}", f"of {epochs_planned} · {seconds:.1f} s of training"))
    return '<div class="cards">' + "".join(
        f'<div class="card"><span class="quiet">{escape(label)}</span><b>{escape(value)}</b><span class="quiet">{escape(below)}</span></div>'
        for label, value, below in shown
    ) + "</div>"  # fmt: skip


def reading(sentences: Sequence[str]) -> str:
    """What the curves suggest."""
    if not sentences:
        return '<div class="panel reading">Nothing in these curves stands out.</div>'
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="panel reading"><ul>{items}</ul><p class="quiet">Rules of thumb on the numbers below: hints, not proofs.</p></div>'


def curves(run: Run, baseline: dict[str, float]) -> str:
    """Losses, metrics, learning rate, and the sizes of gradients and updates, over the epochs."""
    records = run.records
    marked = run.best.get("epoch")
    epochs = [record["epoch"] for record in records]

    def column(name: str) -> list[float]:
        return [float(record.get(name, math.nan)) for record in records]

    def both(name: str) -> list[Curve]:
        pairs = [(part, part, f"{part}_{name}") for part in ("training", "validation")]
        pairs += [("with regularizers", "faint", "training_objective")] * (name == "loss")
        return [Curve(label, role, column(key)) for label, role, key in pairs if key in records[0]]

    names = [name.removeprefix("training_") for name in records[0] if name.startswith("training_") and name != "training_objective"]
    charts = [chart(_title(name), epochs, both(name), marked, baseline.get(name)) for name in names]
    sizes = [chart("Learning rate", epochs, [Curve("rate", "plain", column("lr"))], marked)]
    if "gradient_norm" in records[0]:
        ratio = [u / p if p else math.nan for u, p in zip(column("update_norm"), column("parameter_norm"), strict=True)]
        sizes.append(chart("Gradient norm", epochs, [Curve("last step", "plain", column("gradient_norm"))], marked))
        sizes.append(chart("Relative update", epochs, [Curve("update norm / parameter norm, last step", "plain", ratio)], marked))
    note = "The dashed line marks the epoch whose weights were kept. " if marked else ""
    columns = "three" if len(charts) % 3 == 0 else "two"
    return f'<div class="charts {columns}">{"".join(charts)}</div><div class="charts small">{"".join(sizes)}</div><p class="quiet">{note}Point at a curve for its numbers.</p>'


def results(findings: Findings) -> str:
    """Confusion matrix of a classifier, or predictions against targets of a regression."""
    if findings.confusion is not None:
        body = confusion(findings.confusion, findings.classes)
        caption = f"{np.trace(findings.confusion):,} of {findings.size:,} {findings.part} samples right. Rows: true class; columns: predicted."
        return f'<h2>Confusion</h2><p class="quiet">{caption}</p><div class="panel">{body}</div>'
    if findings.predictions is None:
        return ""
    pairs = findings.predictions[:MOST_DOTS]
    caption = f"{len(pairs):,} of {findings.size:,} {findings.part} samples. Across: target; up: prediction."
    drawing = scatter(pairs[:, 0].tolist(), pairs[:, 1].tolist()) if np.all(np.isfinite(pairs)) else "Not all predictions are finite."
    return f'<h2>Predictions</h2><p class="quiet">{caption}</p><div class="panel">{drawing}</div>'


def confusion(matrix: Array, classes: Sequence[str]) -> str:
    """The matrix as a table, or the most frequent confusions where there are too many classes for one."""
    if len(classes) > LARGEST_CONFUSION:
        return _most_confused(matrix, classes)
    precision, recall, _ = precision_recall_f1(matrix)
    rows = []
    for i, name in enumerate(classes):
        cells = "".join(_cell(matrix, classes, i, j) for j in range(len(classes)))
        rows.append(f'<tr><th>{escape(name)}</th>{cells}<td class="rate">{recall[i]:.2f}</td></tr>')
    head = "".join(f'<th title="{escape(name)}">{escape(name)}</th>' for name in classes)
    foot = "".join(f'<td class="rate">{value:.2f}</td>' for value in precision)
    return (
        f'<table class="confusion"><thead><tr><th></th>{head}<th>recall</th></tr></thead><tbody>{"".join(rows)}'
        f"<tr><th>precision</th>{foot}<td></td></tr></tbody></table>"
    )


def worst(findings: Findings, features: Sequence[str] | None) -> str:
    """The samples with the largest loss: pictures, or a table of their values."""
    samples = findings.worst
    if not samples:
        return ""
    is_regression = findings.confusion is None
    heading = "Largest errors" if is_regression else "Most wrong" if findings.are_wrong else "Closest calls"
    says = "" if is_regression or findings.are_wrong else "Every sample is right; these are the least certain. "
    values = np.stack([sample.values for sample in samples])
    images = as_images(values, features)
    if images is not None:
        body = '<div class="samples">' + "".join(
            f'<figure><img src="{png_address(image)}" alt="sample {sample.number}"><div>{escape(sample.target)} → '
            f'<span class="{"wrong" if findings.are_wrong or is_regression else ""}">{escape(sample.answer)}</span></div>'
            f'<div class="quiet">loss {sample.loss:.3g}<br>no. {sample.number}</div></figure>'
            for sample, image in zip(samples, images, strict=True)
        ) + "</div>"  # fmt: skip
    else:
        flat = values.reshape(len(values), -1)
        names = list(features or [f"x{i}" for i in range(flat.shape[1])])
        head = _row("th", ["no.", "target", "prediction", "loss", *names[:MOST_COLUMNS]])
        rows = [
            _row("td", [str(s.number), s.target, s.answer, f"{s.loss:.3g}", *(f"{v:.4g}" for v in row[:MOST_COLUMNS])])
            for s, row in zip(samples[:10], flat, strict=False)
        ]
        more = f'<p class="quiet">The first {MOST_COLUMNS} of {len(names)} features.</p>' if len(names) > MOST_COLUMNS else ""
        body = f'<table class="values">{head}{"".join(rows)}</table>{more}'
    caption = f"{says}Target → prediction; the largest loss comes first. The number counts the {findings.part} part from 0."
    return f'<h2>{heading}</h2><p class="quiet">{caption}</p><div class="panel">{body}</div>'


def provenance(run: Run, config_text: str) -> str:
    """What was run, on what, and how to run it again."""
    command = [str(word) for word in run.facts.get("command", [])]
    command[:1] = ["layerflow"] if command else []
    imports = [word for flag, file in zip(command, command[1:], strict=False) if flag == "--import" for word in (flag, file)]
    again = shlex.join(["layerflow", "train", str(run.folder / "config.yaml"), "--name", run.folder.parent.name, *imports])
    data = run.facts.get("data", {})
    facts = {
        "ran as": shlex.join(command),
        "seed": run.facts.get("seed"),
        "data": data.get("name"),
        "checksum": data.get("checksum"),
        "samples": ", ".join(f"{size:,} {part}" for part, size in data.get("samples", {}).items()),
        **run.facts.get("versions", {}),
    }
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in _flat(facts))
    return (
        f'<h2>Run it again</h2><div class="command"><pre>{escape(again)}</pre></div>'
        f'<div class="panel"><table class="facts">{rows}</table></div>'
        f'<details><summary>config.yaml: every setting, defaults included</summary><div class="panel"><pre>{escape(config_text)}</pre></div></details>'
    )


def _cell(matrix: Array, classes: Sequence[str], i: int, j: int) -> str:
    count = int(matrix[i, j])
    share = count / max(int(matrix[i].sum()), 1)
    if not count:
        return '<td class="none">·</td>'
    # A confusion of one sample in thirty must still be seen, so its colour starts from a visible share.
    shade = share if i == j else min(0.25 + share, 0.9)
    kind = " ".join(["wrong"] * (i != j) + ["strong"] * (shade > 0.6))
    told = f"{count} of {int(matrix[i].sum())} samples of {classes[i]} taken for {classes[j]}"
    return f'<td class="{kind}" style="--share:{shade:.2f}" title="{escape(told)}">{count}</td>'


def _most_confused(matrix: Array, classes: Sequence[str]) -> str:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[i, j]]
    rows = "".join(_row("td", [classes[i], classes[j], str(wrong[i, j]), str(matrix[i].sum())]) for i, j in pairs)
    return f'<table class="values">{_row("th", ["true", "taken for", "samples", "of"])}{rows}</table>'


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _flat(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in facts.items():
        pairs += [(f"{key} {name}", inner) for name, inner in value.items()] if isinstance(value, dict) else [(key, value)]
    return [(key, value) for key, value in pairs if value not in (None, "")]


def _title(name: str) -> str:
    return name.upper() if name in ("rmse", "mae", "r2", "f1") else _words(name).capitalize()


def _words(name: str) -> str:
    return name.replace("_", " ")
