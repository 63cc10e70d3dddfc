"""`check_gradients`: what it checks, what it leaves alone, and what it says."""

import json
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import GateError
from layerflow.gates import Dropout, Maximum, Multiply, ReLU, SoftmaxCE, SquaredError, Tanh
from layerflow.gradcheck import Report, assert_gradients, check_gradients

RNG = np.random.default_rng(7)
X = RNG.normal(size=(5, 4))


class Scale(lf.Gate):
    """Right unless told otherwise."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.gamma = lf.Parameter(1.0)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return (self.gamma.value * grad,), {"gamma": self.factor * np.sum(grad * x)}


class Noise(lf.Gate):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def forward(self, x: Any) -> Any:
        factor = self.rng.normal(size=np.shape(x))
        self.save(factor)
        return factor * x

    def backward(self, grad: Any) -> Any:
        return (grad * self.saved[0],), {}


class RunningMean(lf.Gate):
    def __init__(self) -> None:
        self.mean = lf.Buffer(np.zeros(4))

    def forward(self, x: Any) -> Any:
        mean = 0.9 * self.mean.value + 0.1 * x.mean(axis=0)
        self.mean.value = mean
        self.save(len(x))
        return x - mean

    def backward(self, grad: Any) -> Any:
        (rows,) = self.saved
        return (grad - 0.1 * grad.sum(axis=0) / rows,), {}


def report_of(gate: lf.Gate, *inputs: Any, **options: Any) -> Report:
    report = check_gradients(gate, *inputs, **options)
    assert str(report)
    return report


def test_a_right_gate_is_right_and_the_report_is_true() -> None:
    report = report_of(Scale(), X)
    assert report
    assert report.ok
    assert [tensor.name for tensor in report.tensors] == ["x", "gamma"]
    assert all(tensor.checked == tensor.size for tensor in report.tensors)
    assert report.relative_error < 1e-9
    assert "all gradients agree" in str(report)


def test_a_wrong_parameter_gradient_is_found_though_only_x_is_given() -> None:
    report = report_of(Scale(factor=7.0), X)
    assert not report
    x, gamma = report.tensors
    assert (x.verdict, gamma.verdict) == ("ok", "wrong")
    assert gamma.worst is not None
    assert gamma.worst.analytic == pytest.approx(7 * gamma.worst.numeric)
    assert gamma.worst.relative_error == pytest.approx(6 / 7)


def test_assert_gradients_raises_with_the_report() -> None:
    assert_gradients(Scale(), X)
    with pytest.raises(AssertionError) as caught:
        assert_gradients(Scale(factor=2.0), X)
    assert str(caught.value) == str(check_gradients(Scale(factor=2.0), X))
    assert "Scale.gamma: analytic = 2 x numeric" in str(caught.value)


def test_the_worst_element_is_named_with_both_derivatives() -> None:
    class OneWrong(Tanh):
        def backward(self, grad: Any) -> Any:
            (dx,), _ = super().backward(grad)
            dx = dx.copy()
            dx[2, 1] *= 1.001
            return (dx,), {}

    report = report_of(OneWrong(), X)
    (x,) = report.tensors
    assert x.wrong == 1
    assert x.worst is not None
    assert x.worst.index == (2, 1)
    assert x.worst.relative_error == pytest.approx(1e-3, rel=0.01)
    assert "at [2, 1]" in str(report)
    assert not report.diagnoses


def test_gate_and_arrays_stay_as_they_were() -> None:
    gate, x = lf.Sequential(lf.Linear(3), Dropout(0.5, seed=1), ReLU()), X.astype(np.float32)
    gate.forward(x)
    before = (
        [p.value.copy() for p in gate.parameters()],
        x.copy(),
        [g.bit_generator.state for g in gate.named_generators().values()],
    )
    saved = [step.gate._saved for step in gate.steps]
    assert report_of(gate, x)
    assert all(
        np.array_equal(p.value, old) and p.value.dtype == np.float32
        for p, old in zip(gate.parameters(), before[0], strict=True)
    )
    assert np.array_equal(x, before[1])
    assert [g.bit_generator.state for g in gate.named_generators().values()] == before[2]
    assert all(step.gate._saved is old for step, old in zip(gate.steps, saved, strict=True))


def test_an_unbuilt_gate_is_built_on_the_copy_only() -> None:
    gate = lf.Linear(3)
    assert report_of(gate, X)
    assert not gate._is_built
    assert not gate.weight.has_value


def test_one_seed_gives_one_report() -> None:
    first, second, other = (check_gradients(lf.Linear(3), X, seed=seed) for seed in (3, 3, 4))
    assert str(first) == str(second) != str(other)


def test_a_missing_factor_is_seen_though_the_parameter_starts_at_one() -> None:
    class Forgetful(Scale):
        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            return (grad,), {"gamma": np.sum(grad * x)}

    assert not report_of(Forgetful(), X)


@pytest.mark.parametrize(
    "inputs", [(2.0, 3), (np.float64(2.0), np.array(3.0)), (np.array([1.0, 2.0]), 3.0), ([1.0, 2.0], [3.0, 4.0])]
)
def test_numbers_lists_and_arrays_without_axes_are_inputs(inputs: tuple[Any, ...]) -> None:
    assert report_of(Multiply(), *inputs)


def test_float32_gates_are_checked_in_float64() -> None:
    gate = lf.Linear(3)
    gate.forward(X.astype(np.float32))
    report = report_of(gate, X.astype(np.float32))
    assert report
    assert report.relative_error < 1e-9


def test_random_gates_are_replayed() -> None:
    assert report_of(Noise(), X)
    assert report_of(Dropout(0.4), X)


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_are_put_back(training: bool) -> None:
    gate = RunningMean()
    gate.training = training
    assert report_of(gate, X)
    assert np.array_equal(gate.mean.value, np.zeros(4))


def test_labels_are_not_differentiated() -> None:
    report = report_of(SoftmaxCE(), X, np.array([0, 1, 2, 3, 0]))
    assert report
    assert [tensor.name for tensor in report.tensors] == ["scores"]


def test_an_input_without_gradient_is_shown_as_such() -> None:
    report = report_of(SquaredError(), X, X + 1.0)
    assert report
    assert [tensor.verdict for tensor in report.tensors] == ["ok", "no gradient"]


def test_no_gradient_for_the_first_input_is_a_fault() -> None:
    class Nothing(Tanh):
        def backward(self, grad: Any) -> Any:
            return (None,), {}

    class NothingButGamma(Scale):
        def backward(self, grad: Any) -> Any:
            return (None,), super().backward(grad)[1]

    assert not report_of(Nothing(), X)
    report = report_of(NothingButGamma(), X)
    assert not report
    assert "backward returns None for x" in str(report)


def test_a_check_in_which_nothing_smooth_was_tested_fails() -> None:
    report = report_of(ReLU(), np.zeros((3, 3)))
    assert not report
    assert "every input is at a kink" in str(report)
    assert report.kinks == 9


def test_large_tensors_are_sampled_and_a_wrong_one_is_still_found() -> None:
    x = RNG.normal(size=(40, 50))
    right = report_of(lf.Linear(30), x, samples=60)
    assert right
    assert all(tensor.checked < tensor.size and tensor.directions for tensor in right.tensors if tensor.name != "bias")

    class OneRowWrong(lf.Linear):
        def backward(self, grad: Any) -> Any:
            dx, grads = super().backward(grad)
            grads["weight"][17, 3] += 0.1
            return dx, grads

    report = report_of(OneRowWrong(30), x, samples=60)
    weight = next(tensor for tensor in report.tensors if tensor.name == "weight")
    assert weight.verdict == "wrong"
    assert weight.worst is not None
    assert weight.worst.is_direction


def test_json_has_everything() -> None:
    plain = json.loads(json.dumps(check_gradients(Scale(factor=2.0), X).as_dict()))
    assert plain["ok"] is False
    assert plain["tensors"][1]["worst"]["analytic"] == pytest.approx(2 * plain["tensors"][1]["worst"]["numeric"])
    assert plain["diagnoses"][0]["cause"] == "factor 2"


class Raises(lf.Gate):
    def forward(self, x: Any) -> Any:
        self.save(x)
        return x * 1.0

    def backward(self, grad: Any) -> Any:
        return (grad.no_such_thing,), {}


class WrongShape(Raises):
    def backward(self, grad: Any) -> Any:
        return (grad[0],), {}


class NotATuple(Raises):
    def backward(self, grad: Any) -> Any:
        return grad


class Valueless(Raises):
    def __init__(self) -> None:
        self.w = lf.Parameter()


class OnlyLabels(Raises):
    def backward(self, grad: Any) -> Any:
        return (None,), {}


BAD_INPUT = {
    "no gate": (lambda: check_gradients(3, X), "not a gate"),
    "a class": (lambda: check_gradients(ReLU, X), "with parentheses"),
    "integers": (lambda: check_gradients(ReLU(), np.arange(6)), r"'x' was given as int64.*give x.astype\(float\)"),
    "booleans": (lambda: check_gradients(ReLU(), np.array([True])), "'x' was given as bool"),
    "nothing real": (lambda: check_gradients(OnlyLabels(), np.arange(3)), "nothing to check"),
    "text": (lambda: check_gradients(ReLU(), np.array(["a"])), "input 0 is array of <U1"),
    "None": (lambda: check_gradients(ReLU(), None), "input 0 is NoneType"),
    "not a number": (lambda: check_gradients(ReLU(), np.array([[1.0, np.nan]])), r"holds nan at \[0, 1\]"),
    "infinite output": (lambda: check_gradients(lf.gates.Log(), np.array([1.0, 0.0])), r"forward gives -inf at \[1\]"),
    "too many inputs": (lambda: check_gradients(ReLU(), X, X), r"2 inputs were given, its forward takes \(x\)"),
    "too few inputs": (lambda: check_gradients(SoftmaxCE(), X), r"1 inputs were given, its forward takes \(scores"),
    "too many for a model": (lambda: check_gradients(lf.Sequential(ReLU()), X, X), "has 1 inputs, 2 shapes were given"),
    "no samples": (lambda: check_gradients(ReLU(), X, samples=0), "samples=0"),
    "a parameter without value": (lambda: check_gradients(Valueless(), X), r"parameter 'w' has no value after build"),
    "wrong width": (lambda: check_gradients(lf.Linear(3, in_features=7), X), r"expected \(\.\.\., 7\)"),
    "shapes that do not fit": (lambda: check_gradients(Maximum(), np.ones(3), np.ones(4)), "broadcast"),
    "raises": (
        lambda: check_gradients(Raises(), X),
        r"(?s)no_such_thing.*test_check.py, line \d+, in backward: return \(grad.no_such_thing,\)",
    ),
    "wrong shape": (lambda: check_gradients(WrongShape(), X), r"shape \(4,\) for input 'x', expected \(5, 4\)"),
    "not a tuple": (lambda: check_gradients(NotATuple(), X), r"return \(grad_x,\), \{\}"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_a_clear_message(case: str) -> None:
    call, message = BAD_INPUT[case]
    with pytest.raises(GateError, match=message):
        call()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_is_wrong(bad: float) -> None:
    class NotFinite(Tanh):
        def backward(self, grad: Any) -> Any:
            (dx,), _ = super().backward(grad)
            dx = dx.copy()
            dx[1, 2] = bad
            return (dx,), {}

    report = report_of(NotFinite(), X)
    assert not report
    assert report.tensors[0].wrong == 1
    assert report.diagnoses[0].cause == "not finite"


def test_a_kept_output_that_backward_overwrites_is_a_fault() -> None:
    class Attribute(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.y = np.tanh(x)
            return self.y

        def backward(self, grad: Any) -> Any:
            self.y *= -self.y
            self.y += 1.0
            return (grad * self.y,), {}

    report = report_of(Attribute(), X)
    assert [fault.cause for fault in report.faults] == ["stored array overwritten by backward"]


def test_gates_made_of_gates_are_checked_with_all_their_parameters() -> None:
    class Block(lf.Gate):
        def __init__(self, width: int) -> None:
            self.layers = [lf.Linear(width), lf.Linear(width)]

        def build(self, rng: np.random.Generator, shape: Any) -> Any:
            for layer in self.layers:
                shape = layer.build(rng, shape)
            return shape

        def forward(self, x: Any) -> Any:
            return x + self.layers[1].forward(self.layers[0].forward(x))

        def backward(self, grad: Any) -> Any:
            (dh,), second = self.layers[1].backward(grad)
            (dx,), first = self.layers[0].backward(dh)
            named = [(f"layers.{i}.{key}", g) for i, grads in enumerate((first, second)) for key, g in grads.items()]
            return (grad + dx,), dict(named)

    report = report_of(Block(4), X)
    assert report, str(report)
    assert [tensor.name for tensor in report.tensors][1:3] == ["layers.0.weight", "layers.0.bias"]


def test_extreme_values_are_compared_where_they_can_be() -> None:
    assert report_of(lf.Sigmoid(), np.array([-800.0, 800.0, 0.0, 1e-320, 3.0]))
    assert report_of(lf.SoftmaxCE(), 1e4 * X, np.array([0, 1, 2, 3, 0]))
    assert report_of(lf.gates.Exp(), np.array([300.0, -300.0, 5.0]))
    assert report_of(lf.Linear(3), np.zeros((0, 4)))


class Faint(lf.Gate):
    """y = 1 + factor * x, whose backward says `claimed`."""

    def __init__(self, factor, claimed):
        self.factor, self.claimed = factor, claimed

    def forward(self, x):
        return 1 + self.factor * x

    def backward(self, grad):
        return (self.claimed * grad,), {}


@pytest.mark.parametrize(
    ("factor", "claimed", "verdict"),
    [(1e-40, 1e-40, "ok"), (0.0, 1e-130, "ok"), (0.0, 1e-3, "wrong"), (0.0, 1e-9, "wrong"), (1e-3, 2e-3, "wrong")],
)
def test_a_slope_that_is_too_small_to_move_the_output_is_not_wrong(factor, claimed, verdict) -> None:
    report = check_gradients(Faint(factor, claimed), np.array([0.3, -1.2]))
    assert report.tensors[0].verdict == verdict


SENSITIVE = {
    "tanh": (lf.Tanh, (X,)),
    "linear": (lambda: lf.Linear(3), (X,)),
    "softmax": (lf.Softmax, (X,)),
    "cross-entropy": (lf.SoftmaxCE, (X, np.array([0, 1, 2, 3, 0]))),
    "relu": (lf.ReLU, (X,)),
    "a model": (lambda: lf.Sequential(lf.Linear(6), lf.ReLU(), lf.Linear(3)), (X,)),
}


@pytest.mark.parametrize("case", SENSITIVE)
def test_an_error_of_one_in_a_million_is_found_in_every_tensor(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, inputs = SENSITIVE[case]
    gate = make()
    right = type(gate).backward

    def slightly_wrong(self: lf.Gate, *grads: Any) -> Any:
        input_grads, param_grads = right(self, *grads)
        scaled = tuple(None if g is None else g * (1 + 1e-6) for g in input_grads)
        return scaled, {name: g * (1 + 1e-6) for name, g in param_grads.items()}

    assert check_gradients(gate, *inputs)
    monkeypatch.setattr(type(gate), "backward", slightly_wrong)
    assert all(tensor.verdict == "wrong" for tensor in check_gradients(gate, *inputs).tensors)


class TwoOutputs(lf.Gate, checked=False):
    """tanh(w x) and sum(x^2)."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.w = factor, lf.Parameter(np.array([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x: Any) -> Any:
        y = np.tanh(self.w.value * x)
        self.save(x, y)
        return y, np.sum(x**2)

    def backward(self, grad_y: Any, grad_square: Any) -> Any:
        x, y = self.saved
        da = grad_y * (1 - y**2)
        return (da * self.w.value + 2 * self.factor * x * grad_square,), {"w": np.sum(da * x, axis=0)}


def test_every_output_of_a_gate_has_an_upstream_gradient_of_its_own() -> None:
    assert report_of(TwoOutputs(), X)
    x, w = report_of(TwoOutputs(factor=1.1), X).tensors
    assert (x.verdict, w.verdict) == ("wrong", "ok")
