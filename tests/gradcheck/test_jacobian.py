"""Jacobians: the shapes of the lecture, and the same numbers from backward and from differences."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import GateError
from layerflow.gates import MatMul, Multiply, Reshape, Softmax, SoftmaxCE, Sum, Tanh
from layerflow.gradcheck import jacobian, numeric_jacobian

RNG = np.random.default_rng(1)


class Repeat(lf.Gate):
    """A vector of three from one number."""

    def forward(self, x: Any) -> Any:
        self.save()
        return np.array([1.0, 2.0, 3.0]) * x

    def backward(self, grad: Any) -> Any:
        return (np.asarray(grad @ [1.0, 2.0, 3.0]),), {}


SHAPES = {
    "scalar by scalar": (Tanh(), (0.3,), None, (1, 1)),
    "scalar by vector is a row": (Sum(), (RNG.normal(size=4),), None, (1, 4)),
    "vector by scalar is a column": (Repeat(), (2.0,), None, (3, 1)),
    "vector by vector": (Softmax(), (RNG.normal(size=4),), None, (4, 4)),
    "vector by matrix": (lf.Linear(3), (RNG.normal(size=2),), "weight", (3, 6)),
    "batches are flattened": (lf.Linear(3), (RNG.normal(size=(5, 2)),), "x", (15, 10)),
    "the second input": (MatMul(), (RNG.normal(size=(2, 3)), RNG.normal(size=(3, 4))), "b", (8, 12)),
    "a loss by its scores": (SoftmaxCE(), (RNG.normal(size=(2, 3)), np.array([0, 2])), None, (1, 6)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_are_those_of_the_lecture(case: str) -> None:
    gate, inputs, wrt, shape = SHAPES[case]
    analytic, numeric = jacobian(gate, *inputs, wrt=wrt), numeric_jacobian(gate, *inputs, wrt=wrt)
    assert analytic.shape == numeric.shape == shape
    assert np.allclose(analytic, numeric, rtol=1e-8, atol=1e-10)


def test_rows_are_outputs_and_columns_are_inputs() -> None:
    weight = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    gate = lf.Linear(2, bias=False)
    gate.weight.value = weight
    gate.build(RNG, (3,))
    assert np.allclose(numeric_jacobian(gate, np.ones(3)), weight)
    assert np.allclose(jacobian(gate, np.ones(3)), weight)
    assert np.array_equal(jacobian(Reshape([2, 2]), np.ones((1, 4))), np.eye(4))


def test_a_wrong_backward_has_another_jacobian_than_its_forward() -> None:
    class Diagonal(Softmax):
        def backward(self, grad: Any) -> Any:
            p = self.forward(np.log(self.saved[0]))
            return (grad * p * (1 - p),), {}

    x = RNG.normal(size=3)
    analytic, numeric = jacobian(Diagonal(), x), numeric_jacobian(Diagonal(), x)
    assert np.allclose(np.diag(analytic), np.diag(numeric))
    assert not np.allclose(analytic, numeric)


@pytest.mark.parametrize("function", [jacobian, numeric_jacobian])
def test_an_unknown_name_is_answered_with_the_known_ones(function: Any) -> None:
    with pytest.raises(GateError, match="no input or parameter 'wieght', did you mean 'weight'"):
        function(lf.Linear(2), np.ones(3), wrt="wieght")


def test_an_input_without_gradient_has_no_analytic_jacobian() -> None:
    with pytest.raises(GateError, match="returns None for 'targets'"):
        jacobian(lf.gates.SquaredError(), np.ones(3), np.zeros(3), wrt="targets")


def test_the_gate_stays_as_it_was() -> None:
    gate = Multiply()
    jacobian(gate, 2.0, 3.0)
    assert gate._saved is None


def test_every_row_is_its_own_where_backward_returns_the_same_array_again() -> None:
    class Reuses(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.save(np.empty_like(x))
            return 2.0 * x

        def backward(self, grad: Any) -> Any:
            (room,) = self.saved
            np.multiply(grad, 2.0, out=room)
            return (room,), {}

    assert np.array_equal(jacobian(Reuses(), np.ones(3)), 2.0 * np.eye(3))
