"""Pictures of many runs. Needs the `plot` extra (matplotlib)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerflow.errors import ConfigError
from layerflow.runs.records import Run

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ConfigError("pictures need matplotlib: pip install 'layerflow[plot]'") from error

INK, FAINT, DOT, MEAN = "#2b2d33", "#d9dce1", "#2a6f97", "#e07a1f"
NAMED = 10


def draw_runs(runs: Sequence[Run], by: str, path: Path) -> None:
    """Draw the loss and the ranking metric of all runs over the epochs; training dashed and fainter."""
    metric = by.split("_", 1)[1]
    names = ["loss"] if metric in ("loss", "objective") else ["loss", metric]
    figure = Figure(figsize=(5.4 * len(names) + 2.6, 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    colors = _colors(len(runs))
    for axes, name in zip(panels, names, strict=True):
        frame(axes)
        for place, run in reversed(list(enumerate(runs))):
            label = str(run.folder) if place < NAMED else None
            _draw_run(axes, run, name, colors[place], label)
        axes.set_title(name.replace("_", " "), loc="left", fontweight="bold", fontsize=10, color=INK)
        axes.set_xlabel("epoch   (solid: validation, dashed: training)", fontsize=8, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "loss" and _is_wide(runs):
            axes.set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    more = f"\n({NAMED} of {len(runs)} named)" if len(runs) > NAMED else ""
    figure.legend(
        handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK,
        title=f"best first, by {by}{more}", title_fontsize=8,
    )  # fmt: skip
    save(figure, path)


def draw_search(settings: dict[str, list[Any]], values: Sequence[float], by: str, title: str, path: Path) -> None:
    """Draw a metric against each setting of a search: a dot for every run, and the mean for each value.

    Args:
        settings: the key of each setting, and its value in every run.
        values: the metric of every run; runs whose metric is not finite are left out.
        by: the name of the metric.
        title: the title of the picture.
        path: the file to write.
    """
    figure = Figure(figsize=(3.8 * len(settings) + 0.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
    for axes, (key, given) in zip(panels, settings.items(), strict=True):
        frame(axes)
        points = [(x, y) for x, y in zip(given, values, strict=True) if math.isfinite(y)]
        _draw_setting(axes, points)
        axes.set_xlabel(key, fontsize=9, color=INK)
    panels[0].set_ylabel(by.replace("_", " "), fontsize=9, color=INK)
    figure.suptitle(title, fontsize=10, color=INK)
    save(figure, path)


def frame(axes: Axes) -> None:
    """Draw light axes and a grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=0)


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format given by the file name."""
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the picture cannot be written ({error})") from error


def _draw_run(axes: Axes, run: Run, name: str, color: Any, label: str | None) -> None:
    epochs = [record["epoch"] for record in run.records]
    training, validation = (
        [record.get(f"{part}_{name}", math.nan) for record in run.records] for part in ("train", "val")
    )
    has_validation = any(value == value for value in validation)
    axes.plot(epochs, training, color=color, linewidth=1.0, linestyle="--", alpha=0.55)
    axes.plot(epochs, validation if has_validation else training, color=color, linewidth=1.7, label=label)


def _draw_setting(axes: Axes, points: Sequence[tuple[Any, float]]) -> None:
    grouped: dict[Any, list[float]] = {}
    for x, y in points:
        grouped.setdefault(x if _is_number(x) else str(x), []).append(y)
    if all(map(_is_number, grouped)):
        places = {x: x for x in sorted(grouped)}
        if len(places) > 1 and min(places) > 0 and max(places) / min(places) >= 10:
            axes.set_xscale("log")
    else:
        places = {x: place for place, x in enumerate(grouped)}
        axes.set_xticks(list(places.values()), [str(x) for x in places])
        axes.margins(x=0.2)
    for x, ys in grouped.items():
        axes.plot([places[x]] * len(ys), ys, "o", color=DOT, alpha=0.45, markersize=5, markeredgewidth=0)
    means = [sum(grouped[x]) / len(grouped[x]) for x in places]
    line = "-" if all(map(_is_number, grouped)) else ""
    axes.plot(list(places.values()), means, line, color=MEAN, marker="D", markersize=5, linewidth=1.4)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _colors(count: int) -> list[Any]:
    if count <= NAMED:
        return [colormaps["tab10"](place) for place in range(count)]
    return [colormaps["viridis"](0.95 * place / (count - 1)) for place in range(count)]


def _is_wide(runs: Sequence[Run]) -> bool:
    losses = [
        value for run in runs for record in run.records for name, value in record.items() if name.endswith("_loss")
    ]
    finite = [value for value in losses if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 50
