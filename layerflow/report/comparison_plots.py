"""Pictures of many runs. Needs the `plot` extra (matplotlib)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerflow.errors import ConfigError
from layerflow.report.charts import vertical
from layerflow.runs.records import Run

try:
    from matplotlib import colormaps, rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ConfigError("pictures need matplotlib: pip install 'layerflow[plot]'") from error

INK, FAINT, DOT, MEAN = "#2b2d33", "#d9dce1", "#2a6f97", "#e07a1f"
STYLE: dict[Any, Any] = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6, "font.size": 8, "text.color": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0, "ytick.major.size": 0,
    "xtick.minor.size": 0, "ytick.minor.size": 0, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.titlesize": 10, "axes.titlecolor": INK, "legend.frameon": False, "savefig.dpi": 130,
}  # fmt: skip
NAMED = 10


def draw_runs(runs: Sequence[Run], by: str, path: Path) -> None:
    """Draw the loss and the ranking metric of all runs over the epochs; training dashed and fainter."""
    metric = by.split("_", 1)[1]
    names = ["loss"] if metric in ("loss", "objective") else ["loss", metric]
    records = [record for run in runs for record in run.records]
    losses = [value for record in records for name, value in record.items() if name.endswith("_loss")]
    has_many = len(runs) > NAMED
    colors = [
        colormaps["viridis"](0.95 * place / (len(runs) - 1)) if has_many else colormaps["tab10"](place)
        for place in range(len(runs))
    ]
    with rc_context(STYLE):
        figure = Figure(figsize=(5.4 * len(names) + 2.6, 4.2), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for place, run in reversed(list(enumerate(runs))):
                _draw_run(axes, run, name, colors[place], str(run.folder) if place < NAMED else None)
            axes.set_title(name.replace("_", " "))
            axes.set_xlabel("epoch   (solid: validation, dashed: training)")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if name == "loss" and vertical(losses).is_log:
                axes.set_yscale("log")
        handles, labels = panels[0].get_legend_handles_labels()
        more = f"\n({NAMED} of {len(runs)} named)" if has_many else ""
        title = f"best first, by {by}{more}"
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper", title=title, title_fontsize=8)
        _save(figure, path)


def draw_search(settings: dict[str, list[Any]], values: Sequence[float], by: str, title: str, path: Path) -> None:
    """Draw a metric against each setting of a search: a dot for every run, and the mean for each value.

    `settings` has the values of each setting, and `values` those of the metric, one per run; NaN is left out.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(3.8 * len(settings) + 0.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(settings), squeeze=False, sharey=True)[0]
        for axes, (key, given) in zip(panels, settings.items(), strict=True):
            _draw_setting(axes, [(x, y) for x, y in zip(given, values, strict=True) if math.isfinite(y)])
            axes.set_xlabel(key, fontsize=9)
        panels[0].set_ylabel(by.replace("_", " "), fontsize=9)
        figure.suptitle(title, fontsize=10)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a picture in the format given by the file name."""
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the picture cannot be written ({error})") from error


def _draw_run(axes: Axes, run: Run, name: str, color: Any, label: str | None) -> None:
    epochs = [record["epoch"] for record in run.records]
    training, validation = (
        [record.get(f"{part}_{name}", math.nan) for record in run.records] for part in ("train", "val")
    )
    axes.plot(epochs, training, color=color, linewidth=1.0, linestyle="--", alpha=0.55)
    solid = training if all(map(math.isnan, validation)) else validation
    axes.plot(epochs, solid, color=color, linewidth=1.7, label=label)


def _draw_setting(axes: Axes, points: Sequence[tuple[Any, float]]) -> None:
    grouped: dict[Any, list[float]] = {}
    for x, y in points:
        grouped.setdefault(x if _is_number(x) else str(x), []).append(y)
    has_numbers = all(map(_is_number, grouped))
    places = {x: x for x in sorted(grouped)} if has_numbers else {x: place for place, x in enumerate(grouped)}
    if not has_numbers:
        axes.set_xticks(list(places.values()), [str(x) for x in places])
        axes.margins(x=0.2)
    elif len(places) > 1 and min(places) > 0 and max(places) / min(places) >= 10:
        axes.set_xscale("log")
    for x, ys in grouped.items():
        axes.plot([places[x]] * len(ys), ys, "o", color=DOT, alpha=0.45, markersize=5, markeredgewidth=0)
    means = [sum(grouped[x]) / len(grouped[x]) for x in places]
    line = "-" if has_numbers else ""
    axes.plot(list(places.values()), means, line, color=MEAN, marker="D", markersize=5, linewidth=1.4)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
