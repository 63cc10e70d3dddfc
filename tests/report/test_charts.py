"""The pictures of a run as SVG: positions, ticks, gaps, names in any script, and what the pointer will show."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from layerflow.report import charts, environment, render
from layerflow.report.charts import HEIGHT, LEFT, WIDTH, Curve, Scale
from layerflow.report.run_page import curves
from layerflow.runs.records import Run

SVG = "{http://www.w3.org/2000/svg}"
DRAW: Any = environment().get_template("charts.svg").module


def chart(*arguments: Any, **options: Any) -> str:
    """Draw a chart as the page shows it."""
    return str(DRAW.figure(charts.chart(*arguments, **options)))


def run_of(epochs: int, validation: bool = True, names: Sequence[str] = ("loss", "accuracy")) -> Run:
    """A run with falling losses and rising metrics."""
    records = []
    for epoch in range(1, epochs + 1):
        record: dict[str, float] = {"epoch": epoch, "lr": 0.1}
        for name in names:
            value = 2.0 / epoch if name == "loss" else 1 - 0.5 / epoch
            record |= {f"train_{name}": value} | ({f"val_{name}": value * 1.1} if validation else {})
        records.append(record | {"train_objective": 3.0, "seconds": 0.1, "gradient_norm": math.nan})
    best = {"best": {"metric": "val_loss", "value": 0.2, "epoch": epochs}} if validation else {}
    return Run(Path(), best, records)


def points(figure: str, role: str = "training") -> list[tuple[str, float, float]]:
    """Return command, x and y of every point of a curve."""
    path = re.search(rf'class="curve {role}" d="([^"]*)"', figure)
    assert path
    return [(command, float(x), float(y)) for command, x, y in re.findall(r"([ML])([-\d.]+) ([-\d.]+)", path[1])]


def numbers(figure: str) -> dict[str, list[object]]:
    """Return what the chart gives the script."""
    data = re.search(r"data-numbers='([^']*)'", figure)
    assert data
    return json.loads(data[1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("low", "high", "is_log", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.93, 0.99, False, [0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99]),
        (-3, 3, False, [-3, -2, -1, 0, 1, 2, 3]),
        (1, 1e4, True, [1, 10, 100, 1000, 1e4]),
        (1e-9, 1, True, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
        (2, 9, True, [2, 9]),
    ],
)
def test_ticks_are_round_numbers_inside_the_axis(low: float, high: float, is_log: bool, expected: list[float]) -> None:
    assert Scale(low, high, 0, 1, is_log).ticks == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_logarithmic_scale_gives_equal_factors_equal_lengths() -> None:
    scale = Scale(1, 10000, 0, 100, is_log=True)
    assert [scale(value) for value in (1, 10, 100, 10000)] == pytest.approx([0, 25, 50, 100])


def test_higher_values_stand_higher_and_later_epochs_further_right() -> None:
    drawn = points(chart("loss", [1, 2, 3], [Curve("training", "training", [3.0, 2.0, 1.0])]))
    assert [x for _, x, _ in drawn] == pytest.approx([LEFT, (LEFT + WIDTH - 10) / 2, WIDTH - 10], abs=0.1)
    assert [y for _, _, y in drawn] == sorted(y for _, _, y in drawn)  # y grows downwards


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_leaves_a_gap(bad: float) -> None:
    figure = chart("loss", [1, 2, 3, 4], [Curve("training", "training", [3.0, bad, 2.0, 1.0])])
    assert [command for command, _, _ in points(figure)] == ["M", "M", "L"]
    assert numbers(figure)["values"] == [["3", "–", "2", "1"]]


def test_every_value_lies_inside_the_picture() -> None:
    for values in ([5.0, 5.0], [0.0, 0.0], [1e-30, 1e30], [-1e9, 3.0], [1e300, -1e300]):
        for _, x, y in points(chart("loss", [1, 2], [Curve("training", "training", values)])):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_a_tiny_value_on_a_logarithmic_axis_is_not_labelled_zero() -> None:
    figure = chart("gradient norm", [1, 2], [Curve("last step", "plain", [1.0, 1e-15])])
    labels = re.findall(r'text-anchor="end">([^<]*)<', figure)
    assert "1e-15" in labels
    assert "0" not in labels


def test_one_epoch_is_a_dot() -> None:
    assert '<circle class="dot training"' in chart("loss", [1], [Curve("training", "training", [1.0])])


def test_the_legend_shows_the_marked_epoch() -> None:
    figure = chart("loss", [1, 2, 3], [Curve("training", "training", [3.0, 2.0, 1.0])], marked=2)
    assert "epoch <output>2</output>" in figure
    assert "training <output>2</output>" in figure
    assert numbers(figure)["shown"] == 1


def test_a_long_run_is_thinned_out_but_keeps_its_ends() -> None:
    figure = chart("loss", list(range(1, 10_001)), [Curve("training", "training", [1.0] * 10_000)], marked=5000)
    epochs = numbers(figure)["epochs"]
    assert len(epochs) < 1000
    assert (epochs[0], epochs[-1]) == (1, 10_000)
    assert abs(epochs[numbers(figure)["shown"]] - 5000) < 20  # type: ignore[call-overload, operator]


def test_a_far_level_does_not_squash_the_curves() -> None:
    near, far = (
        chart("accuracy", [1, 2], [Curve("training", "training", [0.9, 0.95])], level=level) for level in (0.89, 0.1)
    )
    assert 'class="level"' in near
    assert 'class="level"' not in far
    assert "constant guess 0.1" in far


def test_words_are_escaped() -> None:
    figure = chart("<b>", [1, 2], [Curve('"><script>', "training", [1.0, 2.0])])
    assert "<script>" not in figure
    assert "<b></b>" not in figure
    assert "<b>&lt;b&gt;</b>" in figure


def test_right_predictions_lie_on_the_line() -> None:
    drawing = str(DRAW.plot(charts.scatter([1.0, 3.0], [1.0, 3.0])))
    dots = [tuple(map(float, pair)) for pair in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawing)]
    (ends,) = re.findall(r'class="level" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', drawing)
    x1, y1, x2, y2 = map(float, ends)
    for x, y in dots:
        assert y - y1 == pytest.approx((x - x1) * (y2 - y1) / (x2 - x1), abs=0.2)


@pytest.mark.parametrize(
    ("run", "panels"),
    [
        (run_of(1), 2),
        (run_of(30, validation=False), 2),
        (run_of(10, names=("loss", "rmse", "mae", "r2")), 4),
        (run_of(10, names=("loss",)), 1),
        (run_of(3000), 2),
    ],
    ids=["one epoch", "no validation", "regression", "loss alone", "long"],
)
def test_the_curves_file_has_a_panel_for_the_loss_and_each_metric(run: Run, panels: int) -> None:
    large, _ = curves(run, {"accuracy": 0.3})
    picture = ElementTree.fromstring(render("curves.svg", title="digits <&>", charts=large))
    assert next(text.text for text in picture.iter(f"{SVG}text")) == "digits <&>"
    drawn = [path.get("class") for path in picture.iter(f"{SVG}path")]
    assert drawn.count("curve training") == panels
    assert drawn.count("curve validation") == panels * ("val_loss" in run.records[0])


@pytest.mark.parametrize(
    "classes",
    [
        ["no", "yes"],
        [str(digit) for digit in range(10)],
        [f"a rather long name of class {number}" for number in range(5)],
        [str(number) for number in range(100)],
        ["größer", "$a_b$", "中文", "<script>", "a&\"b'"],
    ],
    ids=["two", "digits", "long names", "a hundred", "any script"],
)
def test_a_confusion_matrix_names_every_class_in_full_and_counts_every_sample(classes: list[str]) -> None:
    counts = np.random.default_rng(0).integers(0, 5, (len(classes), len(classes))) + 20 * np.eye(
        len(classes), dtype=int
    )
    counts[0] = 0
    matrix = charts.confusion(counts, classes)
    picture = ElementTree.fromstring(render("confusion.svg", title="title", matrix=matrix))
    names = [
        text.find(f"{SVG}title").text for text in picture.iter(f"{SVG}text") if text.find(f"{SVG}title") is not None
    ]  # type: ignore[union-attr]
    assert names == [name for name in classes for _ in "xy"]
    cells = [
        group for group in picture.iter(f"{SVG}g") if (group.get("class") or "").split()[1:2] in (["right"], ["wrong"])
    ]
    shown = [int(cell.find(f"{SVG}text").text) for cell in cells]  # type: ignore[union-attr, arg-type]
    assert shown == [int(count) for count in counts.reshape(-1) if count]
    positions = [text.attrib for group in cells for text in group.iter(f"{SVG}text")]
    assert all(0 < float(at["x"]) < matrix["width"] and 0 < float(at["y"]) < matrix["height"] for at in positions)
