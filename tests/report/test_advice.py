"""What the report says about the curves of a run: each rule speaks when it should, and is silent otherwise."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from layerflow.report import advice
from layerflow.report.advice import Evidence, advise
from layerflow.report.assessment import Assessment


def records(**columns: list[float]) -> list[dict[str, float]]:
    """Return records with the given columns, and the epoch."""
    length = len(next(iter(columns.values())))
    return [{"epoch": place + 1} | {name: values[place] for name, values in columns.items()} for place in range(length)]


FALLING = [2.0, 1.0, 0.7, 0.5, 0.4, 0.35, 0.32, 0.31, 0.305, 0.303]
LEVELLED = [2.0, 0.5, 0.31, 0.305, 0.3, 0.301, 0.3, 0.302, 0.301, 0.3005]
RISING_AGAIN = [2.0, 1.0, 0.8, 0.7, 0.75, 0.8, 0.9, 1.0, 1.1, 1.2]
ZIGZAG = [2.0, 1.0, 1.5, 0.9, 1.4, 0.8, 1.3, 0.8, 1.2, 0.7]
CONFUSED = np.array([[10, 0, 0], [0, 6, 4], [0, 0, 10]])


def losses(training: list[float], validation: list[float], **more: object) -> Evidence:
    """Return evidence with two losses, watched on the validation part."""
    return Evidence(records(train_loss=training, val_loss=validation), watched="val_loss", **more)  # type: ignore[arg-type]


def accuracies(training: float, validation: float) -> Evidence:
    """Return evidence of one accuracy each."""
    return Evidence(records(train_accuracy=[0.5, training], val_accuracy=[0.5, validation]))


def measured(value: float, guess: float, name: str = "accuracy") -> Evidence:
    """Return evidence of one result on 100 samples."""
    return Evidence([], held_out=Assessment(size=100, results={name: value}, baseline={name: guess}))


def updates(ratio: float, loss: list[float]) -> Evidence:
    """Return evidence of updates of one relative size."""
    return Evidence(records(train_loss=loss, update_norm=[ratio * 5] * len(loss), parameter_norm=[5.0] * len(loss)))


def confused(*rows: list[int]) -> Evidence:
    """Return evidence with a confusion matrix of classes a, b, c."""
    return Evidence([], held_out=Assessment(confusion=np.array(rows), classes=("a", "b", "c")))


SPEAKS = {
    "diverged": (Evidence(records(train_loss=[1.0]), "diverged", "loss is nan"), "after 1 complete epoch: loss is nan"),
    "overfitting": (
        losses(FALLING, RISING_AGAIN),
        "from about epoch 4: the validation loss was lowest there (0.7) and ended at 1.1",
    ),
    "accuracy_gap": (
        accuracies(1.0, 0.8),
        "Training accuracy 1.000 against 0.800 on validation data: the model overfits.",
    ),
    "learning_rate_too_high": (losses(ZIGZAG, LEVELLED), "jumped up after 4 of 9 epochs"),
    "large_updates": (updates(0.3, LEVELLED), "by 0.3 times their norm"),
    "small_updates": (updates(1e-6, [2.3, 2.29, 2.28]), "went from 2.3 to 2.28"),
    "still_improving": (
        losses(FALLING, [2 - 0.1 * place for place in range(10)]),
        "was best in epoch 10 of 10 (1.1, compared with 1.3",
    ),
    "at_baseline": (
        measured(0.15, 0.1),
        "accuracy 0.150 on the 100 test samples, 0.100 for the guess",
    ),
    "never_predicted": (
        confused([9, 1, 0], [0, 9, 0], [2, 2, 0]),
        "Never predicted on test data: class 'c' (4 samples).",
    ),
    "often_confused": (confused([10, 0, 0], [0, 6, 4], [0, 0, 10]), "4 of 10 'b' samples were predicted 'c'."),
}
SILENT = {
    "diverged": [Evidence(records(train_loss=[1.0]), "finished", "left over")],
    "overfitting": [
        losses(FALLING, LEVELLED),
        losses(RISING_AGAIN, RISING_AGAIN),  # both rise: no overfitting, whatever else
        losses(FALLING, [2.0, 1.0, 0.8, 0.7, 0.72, 0.7, 0.73, 0.74, 0.72, 0.75]),  # by less than a tenth
        losses(FALLING[:4], RISING_AGAIN[3:7]),  # too short to tell
        losses(FALLING, [*FALLING[:8], 3.0, math.nan]),
        Evidence(records(train_loss=FALLING)),
    ],
    "accuracy_gap": [accuracies(1.0, 0.95), accuracies(0.9, 0.7)],
    "learning_rate_too_high": [
        losses(FALLING, ZIGZAG),
        losses(LEVELLED, LEVELLED),
        losses([1e-3, 2e-3, 1e-3], [1, 1, 1]),
    ],
    "large_updates": [updates(1e-3, ZIGZAG), Evidence(records(train_loss=FALLING))],
    "small_updates": [updates(1e-3, [2.3, 2.29, 2.28]), updates(1e-6, [2.3, 1.5, 1.0])],
    "still_improving": [
        losses(FALLING, LEVELLED),
        losses(FALLING, [2.0, 1.0, *[0.5 - 0.0001 * place for place in range(8)]]),  # best at the end, by a hair
        losses(FALLING, [2 - 0.1 * place for place in range(10)], outcome="interrupted"),
    ],
    "at_baseline": [measured(0.17, 0.1), measured(0.5, 0.0, "r2"), Evidence([]), measured(3.0, 4.0, "rmse")],
    "never_predicted": [
        confused([9, 1, 0], [0, 9, 0], [0, 0, 0]),
        confused([9, 1, 0], [0, 9, 0], [3, 0, 1]),
        Evidence([]),
    ],
    "often_confused": [confused([8, 2, 0], [0, 9, 1], [0, 1, 9]), confused([1, 0, 0], [0, 1, 1], [0, 0, 4])],
}


def test_every_rule_has_cases() -> None:
    assert {function.__name__ for function in advice.RULES} == SPEAKS.keys() == SILENT.keys()


@pytest.mark.parametrize("name", SPEAKS)
def test_a_rule_speaks_with_its_evidence(name: str) -> None:
    evidence, words = SPEAKS[name]
    function: Callable[[Evidence], str | None] = getattr(advice, name)
    assert words in (function(evidence) or "silence")
    assert words in " ".join(advise(evidence))


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, cases in SILENT.items() for place in range(len(cases))]
)
def test_a_rule_is_silent_without_evidence(name: str, place: int) -> None:
    assert getattr(advice, name)(SILENT[name][place]) is None


def test_the_loss_that_ends_above_its_beginning_is_a_rate_too_high() -> None:
    assert "rose from 1 in the first epoch to 3 at the end" in (
        advice.learning_rate_too_high(losses([1, 2, 3, 3, 3], [1] * 5)) or ""
    )


def test_overfitting_says_what_the_metric_did_meanwhile() -> None:
    columns = {"train_loss": FALLING, "val_loss": RISING_AGAIN, "val_accuracy": [0.5] * 4 + [0.75] * 6}
    assert "The validation accuracy went from 0.500 to 0.750." in (
        advice.overfitting(Evidence(records(**columns))) or ""
    )


def test_a_class_that_is_always_wrong_is_said_to_be() -> None:
    sentence = advice.often_confused(confused([10, 0, 0], [0, 0, 64], [0, 0, 10]))
    assert sentence == "All 64 'b' samples were predicted 'c'."


def test_nothing_is_said_of_a_run_without_epochs() -> None:
    assert advise(Evidence([])) == []


def test_a_good_run_gets_no_warnings() -> None:
    quiet = losses(
        LEVELLED,
        LEVELLED,
        held_out=Assessment(
            size=100,
            results={"accuracy": 0.9},
            baseline={"accuracy": 0.3},
            confusion=np.diag([5, 5, 5]),
            classes=("a", "b", "c"),
        ),
    )
    assert advise(quiet) == []
