"""The parts of a report that tell of the model's results: confusion, predictions, and the worst samples."""

from collections.abc import Sequence

import numpy as np

from layerflow.parameter import Array
from layerflow.report.charts import scatter
from layerflow.report.findings import Findings, Sample
from layerflow.report.markup import element, note, panel, table, text
from layerflow.report.pictures import as_images, png_address
from layerflow.training.metrics import precision_recall_f1

LARGEST_CONFUSION = 40
LONGEST_ACROSS = 5
MOST_CONFUSED = 15
MOST_ROWS, MOST_COLUMNS = 10, 12
MOST_DOTS = 2000


def results(findings: Findings) -> str:
    """Confusion matrix of a classifier, or predictions against targets of a regression."""
    if findings.confusion is not None:
        right = f"{np.trace(findings.confusion):,} of {findings.size:,} {findings.part} samples right."
        caption = note(f"{right} Rows: true class; columns: predicted.")
        return text("h2", "Confusion") + caption + panel(confusion(findings.confusion, findings.classes))
    if findings.predictions is None:
        return ""
    pairs = findings.predictions[:MOST_DOTS]
    caption = note(f"{len(pairs):,} of {findings.size:,} {findings.part} samples. Across: target; up: prediction.")
    are_finite = bool(np.all(np.isfinite(pairs)))
    drawing = scatter(*pairs.T.tolist()) if are_finite else "Not all predictions are finite."
    return text("h2", "Predictions") + caption + panel(drawing)


def confusion(matrix: Array, classes: Sequence[str]) -> str:
    """The matrix as a table, or the most frequent confusions where there are too many classes for one."""
    if len(classes) > LARGEST_CONFUSION:
        return _most_confused(matrix, classes)
    precision, recall, _ = precision_recall_f1(matrix)
    head = text("th", "") + "".join(text("th", name, title=name) for name in classes) + text("th", "recall")
    rows = [
        text("th", name) + "".join(_cell(matrix, classes, i, j) for j in range(len(classes))) + _rate(recall[i])
        for i, name in enumerate(classes)
    ]
    foot = text("th", "precision") + "".join(map(_rate, precision)) + "<td></td>"
    body = "".join(element("tr", cells) for cells in [*rows, foot])
    kind = "confusion tall" if max(map(len, classes)) > LONGEST_ACROSS else "confusion"
    return element("table", element("thead", element("tr", head)) + element("tbody", body), kind=kind)


def worst(findings: Findings, features: Sequence[str] | None) -> str:
    """The samples with the largest loss: pictures, or a table of their values."""
    if not findings.worst:
        return ""
    is_regression = findings.confusion is None
    heading = "Largest errors" if is_regression else "Most wrong" if findings.are_wrong else "Closest calls"
    right = "" if is_regression or findings.are_wrong else "Every sample is right; these are the least certain. "
    caption = (
        f"{right}Target → prediction; the largest loss comes first. Numbers count the {findings.part} part from 0."
    )
    values = np.stack([sample.values for sample in findings.worst])
    images = as_images(values, features)
    if images is None:
        body = _values(findings.worst, values.reshape(len(values), -1), features)
    else:
        kind = "wrong" if is_regression or findings.are_wrong else "right"
        pairs = zip(findings.worst, images, strict=True)
        body = panel("".join(_picture(sample, image, kind) for sample, image in pairs), "samples")
    return text("h2", heading) + note(caption) + panel(body)


def _cell(matrix: Array, classes: Sequence[str], i: int, j: int) -> str:
    count, total = int(matrix[i, j]), int(matrix[i].sum())
    if not count:
        return '<td class="none">·</td>'
    # A confusion of one sample in thirty must still be seen, so its colour starts from a visible share.
    share = count / total
    shade = share if i == j else min(0.25 + share, 0.9)
    kind = " ".join(["wrong"] * (i != j) + ["strong"] * (shade > 0.6))
    told = f"{count} of {total} samples of {classes[i]} taken for {classes[j]}"
    return text("td", count, kind=kind, style=f"--share:{shade:.2f}", title=told)


def _rate(value: float) -> str:
    return text("td", f"{value:.2f}", kind="rate")


def _most_confused(matrix: Array, classes: Sequence[str]) -> str:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(classes)) for place in order]
    rows = [(classes[i], classes[j], wrong[i, j], matrix[i].sum()) for i, j in pairs if wrong[i, j]]
    return table(["true", "taken for", "samples", "of"], rows)


def _picture(sample: Sample, image: Array, kind: str) -> str:
    answer = (
        text("div", f"{sample.target} → ").removesuffix("</div>") + text("span", sample.answer, kind=kind) + "</div>"
    )
    below = text("div", f"loss {sample.loss:.3g}", kind="quiet") + text("div", f"no. {sample.number}", kind="quiet")
    return element("figure", f'<img src="{png_address(image)}" alt="sample {sample.number}">{answer}{below}')


def _values(samples: Sequence[Sample], values: Array, features: Sequence[str] | None) -> str:
    names = list(features or [f"x{i}" for i in range(values.shape[1])])
    rows = [
        [s.number, s.target, s.answer, f"{s.loss:.3g}", *(f"{value:.4g}" for value in numbers[:MOST_COLUMNS])]
        for s, numbers in zip(samples[:MOST_ROWS], values, strict=False)
    ]
    more = note(f"The first {MOST_COLUMNS} of {len(names)} features.") if len(names) > MOST_COLUMNS else ""
    return table(["no.", "target", "prediction", "loss", *names[:MOST_COLUMNS]], rows) + more
