"""Every check speaks where it must, and stays silent where it must."""

from collections.abc import Callable

import numpy as np
import pytest

from layerflow.preflight import CHECKS, Context, data, start, steps

Make = Callable[..., Context]

LAST = "model.4={type: Linear, init: {type: Normal, std: %s}}"
ENDS_WITH = "model=[{type: Linear, out_features: 16}, ReLU, {type: Linear, out_features: %d}, %s]"
DEEP = "model=[%s, {type: Linear, out_features: 3}]"
HIDDEN = "{type: Linear, out_features: 8, init: {type: Normal, std: %s}}"
BINARY = ("data.source.classes=2", "loss=SigmoidCE")

SPEAKS = [
    (start.last_gate, (ENDS_WITH % (3, "Softmax"),), "error", "remove Softmax"),
    (start.last_gate, (ENDS_WITH % (1, "Sigmoid"), *BINARY), "error", "remove Sigmoid"),
    (start.last_gate, (ENDS_WITH % (3, "LogSoftmax"),), "warning", "applies softmax itself"),
    (start.last_gate, (ENDS_WITH % (3, "ReLU"), "loss=MulticlassSVM"), "warning", "cannot be negative"),
    (start.last_width, ("model.4.out_features=7",), "warning", "7 scores for 3 classes"),
    (start.l2_given_twice, ("optimizer.weight_decay=0.01",), "warning", "and weight_decay 0.01 in SGD"),
    (start.initial_loss, (LAST % 9,), "error", "an uninformed model has 1.099, ln(3)"),
    (start.initial_loss, (LAST % 9, "loss=MulticlassSVM"), "error", "has 2, margin * (C - 1) for 3 classes"),
    (start.initial_loss, (LAST % 9, *BINARY), "error", "has 0.6931, ln(2)"),
    (start.initial_loss, (LAST % "1e30",), "error", "scale the features"),
    (start.regularizer_raises_the_loss, ("regularizer.strength=1",), "warning", "outweighs the loss"),
    (start.regularizer_raises_the_loss, ("regularizer.strength=0.0",), "error", "has no effect"),
    (data.feature_scale, ("data.scale=none",), "warning", "data.scale: Standard"),
    (start.dead_relus, (ENDS_WITH.replace("ReLU", "Sunk, ReLU") % (3, "ReLU"),), "error", "'2' 16 of 16"),
    (start.saturation, (DEEP % f"{HIDDEN % 90}, Sigmoid",), "error", "'1' 9"),
    (start.saturation, (DEEP % f"{HIDDEN % 1.5}, Tanh",), "warning", "scale the features"),
    (start.activations_by_depth, (DEEP % ", ".join([HIDDEN % 0.05] * 3),), "warning", "init: he"),
    (start.activations_by_depth, (DEEP % ", ".join([HIDDEN % 1000] * 3),), "error", "rms '0'"),
    (start.gradients_by_depth, (DEEP % ", ".join([HIDDEN % 0.3, "Sigmoid"] * 5),), "warning", "learn slowly"),
    (start.gradients_by_depth, (DEEP % ", ".join([HIDDEN % 5] * 5),), "warning", "explode"),
    (start.gradients_by_depth, ("model.2.init=zeros", "model.4={type: Linear, init: zeros}"), "error", "'0', '2'"),
    (start.gradients_by_depth, ("model.1=Blocked",), "error", "no gradient reaches '0'"),
    (steps.samples_are_independent, ("model.1=Centred",), "error", "gate '1' (Centred)"),
    (steps.a_batch_is_its_samples, ("model.1=Placed",), "error", "position of a sample in the batch"),
    (steps.a_batch_is_its_samples, ("loss=SummedCE",), "warning", "its loss is 6 times the mean of their losses"),
    (steps.update_ratio, ("optimizer.lr=1e-8",), "warning", "seems too low"),
    (steps.update_ratio, ("optimizer.lr=30.0",), "error", "seems too high"),
    (steps.a_few_samples_can_be_learned, ("optimizer.lr=1e-8",), "warning", "Adam with lr 0.01 needs"),
    (steps.a_few_samples_can_be_learned, (ENDS_WITH % (3, "Blocked"),), "error", "Adam does no better"),
    (steps.gradient_check, ("model.1=Wrong",), "error", "gate '1' (Wrong()) has a wrong gradient"),
]  # fmt: skip

SILENT = [
    *((check, ()) for check in CHECKS if check is not start.saturation),
    (start.last_gate, BINARY),
    (start.l2_given_twice, ("regularizer=null", "optimizer.weight_decay=0.01")),
    (start.initial_loss, ("loss=MulticlassSVM",)),
    (start.initial_loss, BINARY),
    (start.initial_loss, ("loss={type: SoftmaxCE, class_weight: [1, 5, 2]}",)),
    (start.regularizer_raises_the_loss, ("model=[{type: Linear, init: zeros}]",)),
    (start.saturation, (DEEP % f"{HIDDEN % 0.3}, Tanh",)),
    (start.gradients_by_depth, ("model.4={type: Linear, init: zeros}",)),
    (steps.samples_are_independent, ("model.1=Noise",)),
    (steps.samples_are_independent, ("model.1={type: Dropout, rate: 0.5}",)),
    (steps.a_batch_is_its_samples, ("loss={type: SoftmaxCE, class_weight: [1, 5, 2]}",)),
    (steps.gradient_check, ("model.1={type: Dropout, rate: 0.5}",)),
    (steps.a_few_samples_can_be_learned, ("loss=Smoothed",)),
    (steps.update_ratio, ("schedule={type: Warmup, epochs: 5, start_factor: 0.0001}",)),
    (steps.gradient_check, ("model=[Flatten, Linear]",)),
    (steps.gradient_check, (DEEP % f"{HIDDEN % 300}, Sigmoid, {HIDDEN % 1}, Sigmoid", "regularizer=null")),
    (steps.a_few_samples_can_be_learned, ("model=[Linear]", "loss=MulticlassSVM")),
    (steps.a_few_samples_can_be_learned, ("regularizer.strength=1", "optimizer.weight_decay=1")),
]


def name(value: object) -> str:
    return (
        getattr(value, "__name__", None) or " ".join(map(str, value))
        if isinstance(value, tuple) or callable(value)
        else str(value)
    )


@pytest.mark.parametrize(("check", "overrides", "verdict", "words"), SPEAKS, ids=name)
def test_a_check_speaks(context: Make, check, overrides, verdict, words) -> None:
    with np.errstate(all="ignore"):
        finding = check(context(*overrides))
    assert (finding.verdict, words in str(finding)) == (verdict, True), str(finding)


@pytest.mark.parametrize(("check", "overrides"), SILENT, ids=name)
def test_a_check_stays_silent(context: Make, check, overrides) -> None:
    finding = check(context(*overrides))
    assert finding.verdict == "ok", str(finding)
    assert not finding.remedy


def test_every_check_must_speak_somewhere() -> None:
    in_tables = {data.duplicates, data.targets, data.constant_features, data.leaking_features}
    assert {check for check, *_ in SPEAKS} | in_tables == set(CHECKS)


@pytest.mark.parametrize(
    ("check", "overrides"),
    [
        (start.last_width, BINARY),
        (start.l2_given_twice, ("regularizer=null",)),
        (start.regularizer_raises_the_loss, ("regularizer=null",)),
        (start.dead_relus, ("model=[Linear]",)),
        (start.saturation, ()),
        (start.activations_by_depth, ("model=[Linear]",)),
        (start.gradients_by_depth, ("model=[Linear]",)),
        (steps.update_ratio, ("model=[{type: Linear, init: zeros}]",)),
        (data.duplicates, ("data.test=null",)),
        (steps.gradient_check, ("model=[Tanh]", "data.source.features=3", "regularizer=null")),
        (steps.a_few_samples_can_be_learned, ("model=[Tanh]", "data.source.features=3", "regularizer=null")),
    ],
    ids=name,
)
def test_a_check_that_does_not_apply_says_nothing(context: Make, check, overrides) -> None:
    assert check(context(*overrides)) is None


def test_a_normalisation_over_the_batch_is_told_from_a_leak_between_samples(context: Make) -> None:
    finding = steps.samples_are_independent(context("model.1={type: Centred, always: false}"))
    assert finding.verdict == "ok"
    assert "gate '1' (Centred) mixes the samples of a batch in training" in finding.evidence


def test_the_numbers_are_those_of_the_formulas(context: Make) -> None:
    zeros = "model=[{type: Linear, init: zeros}]"
    assert start.initial_loss(context(zeros)).number == pytest.approx(np.log(3), rel=1e-5)
    assert start.initial_loss(context(zeros, "loss={type: MulticlassSVM, margin: 0.5}")).number == pytest.approx(
        1.0, rel=1e-5
    )
    still = context("regularizer.strength=0.25")
    weights = [p.value for p in still.trainer.model.parameters() if p.decay]
    expected = 0.25 * sum(float((w * w).sum()) for w in weights)
    assert start.regularizer_raises_the_loss(still).number == pytest.approx(expected, rel=1e-4)


def test_the_size_of_an_update_is_that_of_gradient_descent_on_a_known_objective(context: Make) -> None:
    """With no data gradient left, g = 2 strength W, so that a step changes W by 2 lr strength of its size."""
    blocked = context("model=[{type: Linear, init: he}, Blocked]", "regularizer.strength=0.5", "optimizer.lr=0.01")
    assert steps.update_ratio(blocked).number == pytest.approx(0.01, rel=1e-4)
