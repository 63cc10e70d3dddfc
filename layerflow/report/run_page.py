"""The report of a run: `report.html`, which needs no other file, and its pictures as SVG files."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from layerflow.config.experiment import Experiment
from layerflow.containers.container import Container
from layerflow.report import number, render
from layerflow.report.advice import Evidence, advise, standard_error
from layerflow.report.assessment import Assessment, as_images, assess, png_url
from layerflow.report.charts import Curve, chart, confusion, most_confused, scatter
from layerflow.runs.files import write_atomically
from layerflow.runs.records import Run, read_run
from layerflow.training.evaluation import predict_scores

COMPLETE = ("finished", "stopped early")
TONES = {"finished": "", "stopped early": "", "interrupted": "warn", "running": "warn"}
ABBREVIATIONS = ("rmse", "mae", "r2", "f1")
LARGEST_CONFUSION = 40
MOST_CONFUSED, MOST_DOTS, MOST_ROWS, MOST_COLUMNS = 15, 2000, 10, 12


def write_report(experiment: Experiment, folder: Path, pictures: bool = True) -> None:
    """Write the report of a run that ended, well or badly, into its folder.

    Results are part of it if training was completed: those of the kept weights.

    Args:
        experiment: the run's experiment, after training.
        folder: the run folder.
        pictures: whether to write the pictures as SVG files too: `curves.svg`, and `confusion.svg` for classification.

    Raises:
        StorageError: a file cannot be written.
    """
    run = read_run(folder)
    held_out = assess(experiment) if run.outcome in COMPLETE else None
    large, small = curves(run, held_out.baseline if held_out else {}) if run.records else ([], [])
    files = {"report.html": render("run.html", **_page(run, experiment, held_out), large=large, small=small)}
    title = experiment.config.name
    if pictures and large:
        files["curves.svg"] = render("curves.svg", title=title, charts=large)
    if pictures and held_out and held_out.confusion is not None:
        matrix = confusion(held_out.confusion, held_out.classes)
        files["confusion.svg"] = render("confusion.svg", title=f"{title}: {_correct(held_out)}", matrix=matrix)
    for name, text in files.items():
        write_atomically(folder / name, text.encode())


def _page(run: Run, experiment: Experiment, held_out: Assessment | None) -> dict[str, Any]:
    error, watched = str(run.facts.get("error", "")), str(run.best.get("metric", "train_loss"))
    return {
        "title": f"{experiment.config.name} / {run.folder.name}",
        "outcome": run.outcome,
        "tone": TONES.get(run.outcome, "bad"),
        "started": str(run.facts.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        "cards": _cards(run, held_out or Assessment(), experiment.trainer.epochs),
        "advice": advise(Evidence(run.records, run.outcome, error, watched, held_out or Assessment())),
        "best": run.best,
        "held_out": held_out,
        **_results(held_out, experiment.parts.preprocessing.features),
        "model": _model(experiment),
        "again": _again(run),
        "facts": _facts(run),
        "config": run.config_text,
        "version": run.facts.get("versions", {}).get("layerflow", ""),
    }


def curves(run: Run, baseline: Mapping[str, float]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the charts of loss and metrics, and those of learning rate, gradient norm and relative update."""
    first, epochs, marked = run.records[0], [record["epoch"] for record in run.records], run.best.get("epoch")

    def column(name: str) -> list[float]:
        return [float(record.get(name, math.nan)) for record in run.records]

    def large(name: str) -> dict[str, Any]:
        known = [("training", "training", f"train_{name}"), ("validation", "validation", f"val_{name}")]
        known += [("with regularizers", "faint", "train_objective")] * (name == "loss")
        shown = [Curve(label, role, column(key)) for label, role, key in known if key in first]
        return chart(_title(name), epochs, shown, marked, baseline.get(name))

    single = [("Learning rate", "rate", column("lr"))]
    if "gradient_norm" in first:
        norms = zip(column("update_norm"), column("parameter_norm"), strict=True)
        ratio = [update / parameter if parameter else math.nan for update, parameter in norms]
        single.append(("Gradient norm", "last step", column("gradient_norm")))
        single.append(("Relative update", "update norm / parameter norm, last step", ratio))
    names = [name.removeprefix("train_") for name in first if name.startswith("train_") and name != "train_objective"]
    small = [chart(title, epochs, [Curve(label, "plain", values)], marked) for title, label, values in single]
    return [large(name) for name in names], small


def _cards(run: Run, held_out: Assessment, epochs_planned: int) -> list[tuple[str, str, str]]:
    """The most important numbers: label, value, and a line below."""
    cards = []
    for name, value in held_out.results.items():
        guess = held_out.baseline.get(name)
        below = f"{held_out.size:,} samples" if guess is None else f"constant guess {number(guess)}"
        if name == "accuracy":
            below += f" · standard error {standard_error(value, held_out.size):.3f}"
        cards.append((f"{held_out.part} {_words(name)}", number(value), below))
    if best := run.best:
        cards.append(("best epoch", str(best["epoch"]), f"{_words(str(best['metric']))} {number(best['value'])}"))
    seconds = sum(record.get("seconds", 0.0) for record in run.records)
    cards.append(("epochs", str(len(run.records)), f"of {epochs_planned} · {seconds:.1f} s of training"))
    return cards


def _results(held_out: Assessment | None, features: tuple[str, ...] | None) -> dict[str, Any]:
    """What the page shows of the results: confusion matrix or predictions, and the worst samples as images or rows."""
    names = ("correct", "matrix", "confused", "scatter", "images", "features", "rows")
    shown: dict[str, Any] = dict.fromkeys(names)
    if held_out is None:
        return shown
    if held_out.confusion is not None:
        shown["correct"] = _correct(held_out)
        if len(held_out.classes) <= LARGEST_CONFUSION:
            shown["matrix"] = confusion(held_out.confusion, held_out.classes)
        shown["confused"] = most_confused(held_out.confusion, held_out.classes, MOST_CONFUSED)
    elif held_out.predictions is not None and np.all(np.isfinite(held_out.predictions[:MOST_DOTS])):
        shown["scatter"] = scatter(*held_out.predictions[:MOST_DOTS].T.tolist())
    if held_out.worst:
        values = np.stack([sample.values for sample in held_out.worst])
        images = as_images(values, features)
        values = values.reshape(len(values), -1)
        shown["images"] = None if images is None else [png_url(image) for image in images]
        shown["features"] = list(features or [f"x{i}" for i in range(values.shape[1])])
        shown["rows"] = values[:MOST_ROWS, :MOST_COLUMNS].tolist()
    return shown


def _correct(held_out: Assessment) -> str:
    assert held_out.confusion is not None
    labels = int(held_out.confusion.sum())  # of sequences, more than samples
    what = f"{held_out.part} samples" if labels == held_out.size else f"labels of the {held_out.part} part"
    return f"{np.trace(held_out.confusion):,} of {labels:,} {what} correct"


def _model(experiment: Experiment) -> str:
    """The gates, shapes and numbers of parameters of the model, with the objective and the optimizer."""
    plain = experiment.config.resolve()
    batch, _ = next(experiment.trainer.state.batches.epoch(0))
    with np.errstate(all="ignore"):  # the weights of a run that diverged may be anything
        predict_scores(experiment.model, batch, experiment.trainer.dtype)  # shapes are those of the latest batch
    gates = experiment.model.summary() if isinstance(experiment.model, Container) else repr(experiment.model)
    chosen = {name: plain[name] for name in ("loss", "regularizer", "optimizer", "schedule") if plain[name]}
    return f"{gates}\n\n{yaml.safe_dump(chosen, sort_keys=False, default_flow_style=None, width=100)}"


def _again(run: Run) -> str:
    """The command that repeats the run."""
    command = ["layerflow", "train", str(run.folder / "config.yaml"), "--name", run.folder.parent.name]
    return shlex.join(command + [word for file in run.facts.get("imports", ()) for word in ("--import", str(file))])


def _facts(run: Run) -> dict[str, Any]:
    data = run.facts.get("data", {})
    facts = {
        "command": shlex.join(["layerflow", *map(str, run.facts.get("command", [])[1:])]),
        "seed": run.facts.get("seed"),
        "data": data.get("name"),
        "checksum": data.get("checksum"),
        "samples": ", ".join(f"{size:,} {part}" for part, size in data.get("samples", {}).items()),
        **run.facts.get("versions", {}),
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _title(name: str) -> str:
    return name.upper() if name in ABBREVIATIONS else _words(name).capitalize()
