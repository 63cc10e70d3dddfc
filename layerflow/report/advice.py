"""What the curves of a run suggest: rules of thumb, each of which gives its evidence or says nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from layerflow.parameter import Array
from layerflow.training.history import Record
from layerflow.training.metrics import higher_is_better

# The changes that a sentence needs; smaller ones are noise as a rule.
LOSS_RISE, LOSS_FALL = 1.1, 0.9
SHARP_RISE, SHARP_SHARE = 0.05, 0.25
STILL_GAINING = 0.02
GAP, LEARNED_BY_HEART = 0.1, 0.98
LARGE_UPDATE, SMALL_UPDATE = 0.1, 1e-4
CONFUSED_SHARE, CONFUSED_SAMPLES = 0.2, 3
STANDARD_ERRORS = 2
TOO_HIGH = "the learning rate is probably too high"


@dataclass(frozen=True)
class Evidence:
    """What a reading may rest on.

    Attributes:
        records: one per finished epoch.
        outcome, error: how the run ended, and what ended it.
        watched: the metric that chose the kept weights.
        part, samples: which part the results below were measured on, and its size.
        results, baseline: metrics of the kept weights there, and those of the constant guess.
        confusion: samples of class i (row) taken for class j (column), on the same part; classes: their names.
    """

    records: Sequence[Record]
    outcome: str = "finished"
    error: str = ""
    watched: str = "train_loss"
    part: str = "test"
    samples: int = 0
    results: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    confusion: Array | None = None
    classes: Sequence[str] = ()

    def column(self, name: str) -> list[float]:
        """Return what was recorded under a name, or an empty list when some epoch lacks it or isn't finite."""
        values = [record.get(name, math.nan) for record in self.records]
        return values if all(map(math.isfinite, values)) else []


def diverged(evidence: Evidence) -> str | None:
    """Say it when the numbers left the finite ones."""
    if evidence.outcome != "diverged":
        return None
    epochs = len(evidence.records)
    reason = "; ".join(line.strip() for line in evidence.error.splitlines())
    told = f"The run diverged after {epochs} whole {'epoch' if epochs == 1 else 'epochs'}"
    return f"{told}: {reason}." if reason else f"{told}."


def overfitting(evidence: Evidence) -> str | None:
    """Speak when the validation loss rises by a tenth over its lowest value while the training loss goes on falling."""
    validation, training = evidence.column("val_loss"), evidence.column("train_loss")
    epochs = len(validation)
    if epochs < 6:
        return None
    lowest = validation.index(min(validation))
    after = epochs - 1 - lowest
    end = median(validation[-3:])
    rises = after >= max(3, epochs // 10) and end > LOSS_RISE * validation[lowest]
    if not rises or training[-1] >= LOSS_FALL * training[lowest]:
        return None
    return (
        f"Overfitting from about epoch {lowest + 1}: there the validation loss was lowest ({validation[lowest]:.3g}); "
        f"it ended at {end:.3g}, while the training loss went on from {training[lowest]:.3g} to {training[-1]:.3g}."
        f"{_meanwhile(evidence, lowest)}"
    )


def learned_by_heart(evidence: Evidence) -> str | None:
    """Speak when the training accuracy is all but perfect at the end, and the validation accuracy a tenth lower."""
    training, validation = evidence.column("train_accuracy"), evidence.column("val_accuracy")
    if not training or not validation or training[-1] < LEARNED_BY_HEART or training[-1] - validation[-1] < GAP:
        return None
    return (
        f"The model knows its training samples by heart (accuracy {training[-1]:.3f}) and others much less well "
        f"({validation[-1]:.3f} on the validation part): more data, stronger regularisation or a smaller model may "
        "narrow the gap."
    )


def learning_rate_too_high(evidence: Evidence) -> str | None:
    """Speak when the training loss ends above where it began, or jumps up again and again."""
    loss = evidence.column("train_loss")
    if len(loss) < 4:
        return None
    if (end := median(loss[-3:])) > LOSS_RISE * loss[0] > 0:
        return f"The training loss rose from {loss[0]:.3g} in the first epoch to {end:.3g} at the end: {TOO_HIGH}."
    jumps = sum(later - earlier > SHARP_RISE * loss[0] for earlier, later in pairwise(loss))
    if jumps < max(3, SHARP_SHARE * (len(loss) - 1)):
        return None
    return (
        f"The training loss jumped up after {jumps} of {len(loss) - 1} epochs, each time by more than {SHARP_RISE:.0%} "
        f"of what it began with: {TOO_HIGH}."
    )


def large_updates(evidence: Evidence) -> str | None:
    """Speak when a step typically changes the parameters by a tenth of their size or more."""
    ratio = _update_ratio(evidence)
    if ratio is None or ratio < LARGE_UPDATE:
        return None
    return (
        f"A step typically changed the parameters by {ratio:.2g} times their size, where about 0.001 is usual: "
        "a smaller learning rate would be the first thing to try."
    )


def small_updates(evidence: Evidence) -> str | None:
    """Speak when steps are tiny and the training loss hardly moved."""
    ratio, loss = _update_ratio(evidence), evidence.column("train_loss")
    if ratio is None or len(loss) < 3 or ratio > SMALL_UPDATE or loss[-1] < 0.8 * loss[0]:
        return None
    return (
        f"The training loss only went from {loss[0]:.3g} to {loss[-1]:.3g}, and a step typically changed the "
        f"parameters by {ratio:.1g} times their size, where about 0.001 is usual: the learning rate may be too low."
    )


def still_improving(evidence: Evidence) -> str | None:
    """Speak when the last tenth of the epochs brought the best value, and the last fifth a share of the whole gain."""
    values = evidence.column(evidence.watched)
    epochs = len(values)
    if evidence.outcome != "finished" or epochs < 5:
        return None
    best = max(values) if higher_is_better(evidence.watched) else min(values)
    at = values.index(best)
    before = values[epochs - 1 - max(epochs // 5, 1)]
    gain, whole = abs(best - before), abs(best - values[0])
    if at < epochs - max(epochs // 10, 1) or not whole or gain < STILL_GAINING * whole:
        return None
    return (
        f"Still improving at the end: the {_words(evidence.watched)} was best in epoch {at + 1} of {epochs} "
        f"({best:.3g}, after {before:.3g} a fifth of the epochs earlier); more epochs may help."
    )


def at_baseline(evidence: Evidence) -> str | None:
    """Speak when the result can't be told from the constant guess's: within 2 standard errors, or 0.05 of an r2."""
    results, guess = evidence.results, evidence.baseline
    if "accuracy" in results and "accuracy" in guess and evidence.samples:
        name, margin = "accuracy", STANDARD_ERRORS * standard_error(guess["accuracy"], evidence.samples)
        is_no_better = results[name] <= guess[name] + margin
    elif "r2" in results and "r2" in guess:
        name, is_no_better = "r2", results["r2"] <= guess["r2"] + 0.05
    else:
        return None
    if not is_no_better:
        return None
    return (
        f"No better than a constant guess: {name} {results[name]:.3f} on the {evidence.samples} samples of the "
        f"{evidence.part} part, where the guess has {guess[name]:.3f}. Either the model hasn't learned, or the "
        "features don't tell."
    )


def never_predicted(evidence: Evidence) -> str | None:
    """Speak of classes that occur but were never predicted."""
    if evidence.confusion is None:
        return None
    occur, predicted = evidence.confusion.sum(axis=1), evidence.confusion.sum(axis=0)
    missing = [index for index in range(len(occur)) if occur[index] and not predicted[index]]
    if not missing:
        return None
    named = ", ".join(f"{evidence.classes[index]} ({occur[index]} samples)" for index in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"Never predicted on the {evidence.part} part: {'class' if len(missing) == 1 else 'classes'} {named}{more}."


def often_confused(evidence: Evidence) -> str | None:
    """Speak of the class that most often passes for another one, when that is a fifth of its samples or more."""
    if evidence.confusion is None:
        return None
    wrong = evidence.confusion.copy()
    for index in range(len(wrong)):
        wrong[index, index] = 0
    totals = evidence.confusion.sum(axis=1)
    pairs = [
        (wrong[i, j] / totals[i], i, j)
        for i in range(len(wrong))
        for j in range(len(wrong))
        if wrong[i, j] >= CONFUSED_SAMPLES and wrong[i, j] >= CONFUSED_SHARE * totals[i]
    ]
    if not pairs:
        return None
    _, i, j = max(pairs)
    true, taken = evidence.classes[i], evidence.classes[j]
    return f"Of the {totals[i]} samples of class {true}, {wrong[i, j]} were taken for {taken}."


READINGS = (
    diverged, learning_rate_too_high, large_updates, small_updates, overfitting, learned_by_heart, still_improving,
    at_baseline, never_predicted, often_confused,
)  # fmt: skip


def read_curves(evidence: Evidence) -> list[str]:
    """Return what there is to say, the gravest first."""
    return [sentence for reading in READINGS if (sentence := reading(evidence))]


def standard_error(share: float, samples: int) -> float:
    """Return sqrt(p (1 - p) / n), by how much a share of n samples varies by chance."""
    return math.sqrt(max(share * (1 - share), 0.0) / samples)


def _update_ratio(evidence: Evidence) -> float | None:
    updates, parameters = evidence.column("update_norm"), evidence.column("parameter_norm")
    ratios = [update / parameter for update, parameter in zip(updates, parameters, strict=False) if parameter > 0]
    return median(ratios) if ratios else None


def _meanwhile(evidence: Evidence, since: int) -> str:
    """What the first metric did over the epochs in which the loss rose: often much less."""
    name = next((name for name in evidence.records[0] if name.startswith("val_") and name != "val_loss"), None)
    values = evidence.column(name) if name else []
    return f" The {_words(name)} went from {values[since]:.3f} to {values[-1]:.3f}." if name and values else ""


def _words(name: str) -> str:
    part, _, metric = name.partition("_")
    return f"{ {'train': 'training', 'val': 'validation'}.get(part, part) } {metric.replace('_', ' ')}"
