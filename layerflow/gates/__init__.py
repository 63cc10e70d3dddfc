"""The built-in gates, one file per family."""

from layerflow.gate import Gate
from layerflow.gates.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from layerflow.gates.affine import BiasTrick, Linear
from layerflow.gates.arithmetic import (
    Add,
    Divide,
    Exp,
    Log,
    MatMul,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Power,
    Subtract,
)
from layerflow.gates.dropout import Dropout
from layerflow.gates.loss import ClippedNLL, LogisticLikelihood, MulticlassSVM, SigmoidCE, SoftmaxCE
from layerflow.gates.reduction import Max, Mean, Sum
from layerflow.gates.regression import AbsoluteError, Huber, SquaredError
from layerflow.gates.regularizer import L1Regularizer, L2Regularizer
from layerflow.gates.shape import Concatenate, Flatten, Reshape, Slice, Transpose

_ARITHMETIC = (Add, Subtract, Multiply, Divide, Negate, Power, Maximum, Minimum, MatMul, Exp, Log)
_REDUCTIONS = (Sum, Mean, Max)
_SHAPES = (Reshape, Flatten, Transpose, Concatenate, Slice)
_AFFINE = (Linear, BiasTrick)
_ACTIVATIONS = (ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softplus, GELU, SiLU, Softmax, LogSoftmax)
_LOSSES = (SoftmaxCE, MulticlassSVM, SigmoidCE, SquaredError, AbsoluteError, Huber, ClippedNLL, LogisticLikelihood)
_REGULARIZERS = (L2Regularizer, L1Regularizer)
_ALL = (*_ARITHMETIC, *_REDUCTIONS, *_SHAPES, *_AFFINE, *_ACTIVATIONS, Dropout, *_LOSSES, *_REGULARIZERS)

GATES: dict[str, type[Gate]] = {gate.__name__: gate for gate in _ALL}
for _gate in _ALL:
    _gate.is_proven = True  # by tests/gates/test_laws.py
LOSSES: tuple[str, ...] = tuple(gate.__name__ for gate in _LOSSES)
REGULARIZERS: tuple[str, ...] = tuple(gate.__name__ for gate in _REGULARIZERS)

__all__ = [
    "ELU",
    "GATES",
    "GELU",
    "LOSSES",
    "REGULARIZERS",
    "AbsoluteError",
    "Add",
    "BiasTrick",
    "ClippedNLL",
    "Concatenate",
    "Divide",
    "Dropout",
    "Exp",
    "Flatten",
    "Huber",
    "L1Regularizer",
    "L2Regularizer",
    "LeakyReLU",
    "Linear",
    "Log",
    "LogSoftmax",
    "LogisticLikelihood",
    "MatMul",
    "Max",
    "Maximum",
    "Mean",
    "Minimum",
    "MulticlassSVM",
    "Multiply",
    "Negate",
    "Power",
    "ReLU",
    "Reshape",
    "SiLU",
    "Sigmoid",
    "SigmoidCE",
    "Slice",
    "Softmax",
    "SoftmaxCE",
    "Softplus",
    "SquaredError",
    "Subtract",
    "Sum",
    "Tanh",
    "Transpose",
]
