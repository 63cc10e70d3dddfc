"""What the curves of a run suggest: rules of thumb, each of which states its evidence or returns `None`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import numpy as np

from layerflow.report.assessment import Assessment
from layerflow.training.history import Record
from layerflow.training.metrics import higher_is_better

# The changes that a rule needs; smaller ones are usually noise.
LOSS_RISE, LOSS_FALL = 1.1, 0.9
SHARP_RISE, SHARP_SHARE = 0.05, 0.25
STILL_GAINING = 0.02
GAP, NEARLY_PERFECT = 0.1, 0.98
LARGE_UPDATE, SMALL_UPDATE = 0.1, 1e-4
CONFUSED_SHARE, CONFUSED_SAMPLES = 0.2, 3
STANDARD_ERRORS = 2
TOO_HIGH = "the learning rate is probably too high"


@dataclass(frozen=True)
class Evidence:
    """What the rules look at: the epochs, how the run ended, the metric that picked the best epoch, and the results."""

    records: Sequence[Record]
    outcome: str = "finished"
    error: str = ""
    watched: str = "train_loss"
    held_out: Assessment = field(default_factory=Assessment)

    def column(self, name: str) -> list[float]:
        """Return what was recorded under a name, or an empty list if it is missing or not finite in some epoch."""
        values = [record.get(name, math.nan) for record in self.records]
        return values if all(map(math.isfinite, values)) else []


def diverged(evidence: Evidence) -> str | None:
    """The run ended because its numbers became NaN or infinite."""
    if evidence.outcome != "diverged":
        return None
    epochs = len(evidence.records)
    reason = "; ".join(line.strip() for line in evidence.error.splitlines())
    after = f"after {epochs} complete {'epoch' if epochs == 1 else 'epochs'}"
    return f"The run diverged {after}{': ' if reason else ''}{reason}."


def overfitting(evidence: Evidence) -> str | None:
    """The validation loss rises by a tenth above its lowest value while the training loss keeps falling."""
    validation, training = evidence.column("val_loss"), evidence.column("train_loss")
    epochs = len(validation)
    if epochs < 6:
        return None
    lowest, end = validation.index(min(validation)), median(validation[-3:])
    rises = epochs - 1 - lowest >= max(3, epochs // 10) and end > LOSS_RISE * validation[lowest]
    if not rises or training[-1] >= LOSS_FALL * training[lowest]:
        return None
    return (
        f"Overfitting from about epoch {lowest + 1}: the validation loss was lowest there ({validation[lowest]:.4g}) "
        f"and ended at {end:.4g}, while the training loss kept falling from {training[lowest]:.4g} to "
        f"{training[-1]:.4g}.{_meanwhile(evidence, lowest)}"
    )


def accuracy_gap(evidence: Evidence) -> str | None:
    """The training accuracy is nearly perfect at the end, and the validation accuracy lower by 0.1 or more."""
    training, validation = evidence.column("train_accuracy"), evidence.column("val_accuracy")
    if not training or not validation or training[-1] < NEARLY_PERFECT or training[-1] - validation[-1] < GAP:
        return None
    return (
        f"Training accuracy {training[-1]:.3f} against {validation[-1]:.3f} on validation data: the model overfits. "
        "Try more data, stronger regularization or a smaller model."
    )


def learning_rate_too_high(evidence: Evidence) -> str | None:
    """The training loss ends above where it began, or repeatedly jumps up."""
    loss = evidence.column("train_loss")
    if len(loss) < 4:
        return None
    if (end := median(loss[-3:])) > LOSS_RISE * loss[0] > 0:
        return f"The training loss rose from {loss[0]:.4g} in the first epoch to {end:.4g} at the end: {TOO_HIGH}."
    jumps = sum(later - earlier > SHARP_RISE * loss[0] for earlier, later in pairwise(loss))
    if jumps < max(3, SHARP_SHARE * (len(loss) - 1)):
        return None
    return (
        f"The training loss jumped up after {jumps} of {len(loss) - 1} epochs, each time by more than {SHARP_RISE:.0%} "
        f"of its initial value: {TOO_HIGH}."
    )


def large_updates(evidence: Evidence) -> str | None:
    """A typical step changes the parameters by a tenth of their norm or more."""
    ratio = _update_ratio(evidence)
    if ratio is None or ratio < LARGE_UPDATE:
        return None
    return (
        f"A typical step changed the parameters by {ratio:.2g} times their norm; about 0.001 is usual. "
        "Try a smaller learning rate first."
    )


def small_updates(evidence: Evidence) -> str | None:
    """Steps are tiny and the training loss hardly changed."""
    ratio, loss = _update_ratio(evidence), evidence.column("train_loss")
    if ratio is None or len(loss) < 3 or ratio > SMALL_UPDATE or loss[-1] < 0.8 * loss[0]:
        return None
    return (
        f"The training loss only went from {loss[0]:.4g} to {loss[-1]:.4g}, and a typical step changed the parameters "
        f"by {ratio:.1g} times their norm; about 0.001 is usual. The learning rate may be too low."
    )


def still_improving(evidence: Evidence) -> str | None:
    """The best value came in the last tenth of the epochs, and a share of the whole gain in the last fifth."""
    values = evidence.column(evidence.watched)
    epochs = len(values)
    if evidence.outcome != "finished" or epochs < 5:
        return None
    best, before = (max if higher_is_better(evidence.watched) else min)(values), values[-1 - max(epochs // 5, 1)]
    at = values.index(best)
    gain, whole = abs(best - before), abs(best - values[0])
    if at < epochs - max(epochs // 10, 1) or not whole or gain < STILL_GAINING * whole:
        return None
    return (
        f"Still improving at the end: the {_words(evidence.watched)} was best in epoch {at + 1} of {epochs} "
        f"({best:.4g}, compared with {before:.4g} a fifth of the epochs earlier). More epochs may help."
    )


def at_baseline(evidence: Evidence) -> str | None:
    """The result is no better than the constant guess: within 2 standard errors of accuracy, or 0.05 of r2."""
    held_out, results, guess = evidence.held_out, evidence.held_out.results, evidence.held_out.baseline
    name = next((name for name in ("accuracy", "r2") if name in results and name in guess), None)
    if name is None or not held_out.size:
        return None
    margin = 0.05 if name == "r2" else STANDARD_ERRORS * standard_error(guess[name], held_out.size)
    if results[name] > guess[name] + margin:
        return None
    return (
        f"No better than a constant guess: {name} {results[name]:.3f} on the {held_out.size:,} {held_out.part} "
        f"samples, {guess[name]:.3f} for the guess. Either the model has not learned, or the features carry no signal."
    )


def never_predicted(evidence: Evidence) -> str | None:
    """Some classes occur but were never predicted."""
    held_out = evidence.held_out
    if held_out.confusion is None:
        return None
    occur = held_out.confusion.sum(axis=1)
    missing = np.flatnonzero((occur > 0) & (held_out.confusion.sum(axis=0) == 0))
    if not len(missing):
        return None
    named = ", ".join(f"'{held_out.classes[index]}' ({occur[index]} samples)" for index in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"Never predicted on {held_out.part} data: {'class' if len(missing) == 1 else 'classes'} {named}{more}."


def often_confused(evidence: Evidence) -> str | None:
    """One class is predicted as another one for a fifth of its samples or more."""
    held_out = evidence.held_out
    if held_out.confusion is None:
        return None
    totals = held_out.confusion.sum(axis=1)
    wrong = held_out.confusion - np.diag(held_out.confusion.diagonal())
    enough = (wrong >= CONFUSED_SAMPLES) & (wrong >= CONFUSED_SHARE * totals[:, None])
    if not enough.any():
        return None
    _, i, j = max((wrong[i, j] / totals[i], i, j) for i, j in np.argwhere(enough))
    share = f"All {totals[i]}" if wrong[i, j] == totals[i] else f"{wrong[i, j]} of {totals[i]}"
    return f"{share} '{held_out.classes[i]}' samples were predicted '{held_out.classes[j]}'."


RULES = (
    diverged, learning_rate_too_high, large_updates, small_updates, overfitting, accuracy_gap, still_improving,
    at_baseline, never_predicted, often_confused,
)  # fmt: skip


def advise(evidence: Evidence) -> list[str]:
    """Return the findings of all rules, the most serious first."""
    return [sentence for rule in RULES if (sentence := rule(evidence))]


def standard_error(share: float, samples: int) -> float:
    """Return sqrt(p (1 - p) / n), the standard error of a share measured on n samples."""
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
