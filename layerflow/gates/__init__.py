"""The built-in gates, one file per family; a family is imported when one of its gates is first used."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from layerflow.gate import Gate

if TYPE_CHECKING:
    from layerflow.gates.activation import *  # noqa: F403
    from layerflow.gates.affine import *  # noqa: F403
    from layerflow.gates.arithmetic import *  # noqa: F403
    from layerflow.gates.attention import *  # noqa: F403
    from layerflow.gates.binary import *  # noqa: F403
    from layerflow.gates.cell import *  # noqa: F403
    from layerflow.gates.convolution import *  # noqa: F403
    from layerflow.gates.dropout import *  # noqa: F403
    from layerflow.gates.elementwise import *  # noqa: F403
    from layerflow.gates.embedding import *  # noqa: F403
    from layerflow.gates.joining import *  # noqa: F403
    from layerflow.gates.likelihood import *  # noqa: F403
    from layerflow.gates.loss import *  # noqa: F403
    from layerflow.gates.normalization import *  # noqa: F403
    from layerflow.gates.piecewise import *  # noqa: F403
    from layerflow.gates.pooling import *  # noqa: F403
    from layerflow.gates.recurrent import *  # noqa: F403
    from layerflow.gates.reduction import *  # noqa: F403
    from layerflow.gates.regression import *  # noqa: F403
    from layerflow.gates.regularizer import *  # noqa: F403
    from layerflow.gates.shape import *  # noqa: F403
    from layerflow.gates.similarity import *  # noqa: F403
    from layerflow.gates.smooth import *  # noqa: F403
    from layerflow.gates.statistics import *  # noqa: F403

FAMILIES: dict[str, tuple[str, ...]] = {
    "arithmetic": (
        "Add", "Subtract", "Multiply", "Divide", "Negate", "Power", "Maximum", "Minimum", "MatMul", "Exp", "Log",
    ),
    "reduction": ("Sum", "Mean", "Max"),
    "shape": ("Reshape", "Flatten", "Transpose", "Concatenate", "Slice", "Pad"),
    "affine": ("Linear", "TiedLinear", "BiasTrick"),
    "activation": (
        "ReLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "Softplus", "GELU", "SiLU", "Softmax", "LogSoftmax",
    ),
    "convolution": ("Conv1d", "Conv2d", "ConvTranspose2d"),
    "pooling": ("MaxPool1d", "MaxPool2d", "AvgPool2d", "GlobalAvgPool", "AdaptiveAvgPool2d", "Upsample"),
    "normalization": ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"),
    "embedding": ("Embedding", "PaddingMask", "PositionalEmbedding", "SinusoidalEncoding"),
    "cell": ("RNNCell", "GRUCell", "LSTMCell"),
    "recurrent": ("RNN", "GRU", "LSTM"),
    "attention": ("ScaledDotProductAttention", "MultiHeadAttention"),
    "piecewise": ("PReLU", "Hardtanh", "ReLU6", "Hardsigmoid", "Hardswish", "Threshold"),
    "smooth": ("SELU", "CELU", "Mish", "Softsign", "LogSigmoid", "GLU"),
    "elementwise": ("Abs", "Sqrt", "Sin", "Cos", "Erf", "Clip", "Where"),
    "statistics": ("Min", "Prod", "Var", "Std", "LogSumExp", "Norm", "CumSum"),
    "joining": ("Stack", "Split", "Gather", "Einsum"),
    "dropout": ("Dropout", "Dropout2d", "DropPath", "GaussianNoise"),
    "loss": ("SoftmaxCE", "FocalCE", "MulticlassSVM"),
    "binary": ("SigmoidCE", "ClippedNLL", "LogisticLikelihood"),
    "regression": ("SquaredError", "AbsoluteError", "Huber", "Quantile"),
    "likelihood": ("PoissonNLL", "GaussianNLL", "KLDivergence"),
    "similarity": ("Triplet", "CosineEmbedding"),
    "regularizer": ("L2Regularizer", "L1Regularizer"),
}  # fmt: skip
LOSS_FAMILIES = ("loss", "binary", "regression", "likelihood")
LOSSES: tuple[str, ...] = tuple(name for family in LOSS_FAMILIES for name in FAMILIES[family])
REGULARIZERS: tuple[str, ...] = FAMILIES["regularizer"]
_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


class _Gates(Mapping[str, type[Gate]]):
    """Every built-in gate by name; looking one up imports its family."""

    def __getitem__(self, name: str) -> type[Gate]:
        gate: type[Gate] = getattr(importlib.import_module(f"layerflow.gates.{_FAMILY_OF[name]}"), name)
        return gate

    def __iter__(self) -> Iterator[str]:
        return iter(_FAMILY_OF)

    def __len__(self) -> int:
        return len(_FAMILY_OF)

    def __contains__(self, name: object) -> bool:
        return name in _FAMILY_OF


GATES: Mapping[str, type[Gate]] = _Gates()


def __getattr__(name: str) -> Any:
    if name not in _FAMILY_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    gate = globals()[name] = GATES[name]
    return gate


__all__ = [  # noqa: F405, RUF022 (in the order of the table above)
    "GATES", "LOSSES", "REGULARIZERS",
    "Add", "Subtract", "Multiply", "Divide", "Negate", "Power", "Maximum", "Minimum", "MatMul", "Exp", "Log",
    "Sum", "Mean", "Max", "Reshape", "Flatten", "Transpose", "Concatenate", "Slice", "Pad",
    "Linear", "TiedLinear", "BiasTrick",
    "ReLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "Softplus", "GELU", "SiLU", "Softmax", "LogSoftmax",
    "Conv1d", "Conv2d", "ConvTranspose2d",
    "MaxPool1d", "MaxPool2d", "AvgPool2d", "GlobalAvgPool", "AdaptiveAvgPool2d", "Upsample",
    "BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm",
    "PaddingMask", "Embedding", "PositionalEmbedding", "SinusoidalEncoding",
    "RNNCell", "GRUCell", "LSTMCell", "RNN", "GRU", "LSTM",
    "ScaledDotProductAttention", "MultiHeadAttention",
    "PReLU", "Hardtanh", "ReLU6", "Hardsigmoid", "Hardswish", "Threshold",
    "SELU", "CELU", "Mish", "Softsign", "LogSigmoid", "GLU",
    "Abs", "Sqrt", "Sin", "Cos", "Erf", "Clip", "Where",
    "Min", "Prod", "Var", "Std", "LogSumExp", "Norm", "CumSum",
    "Stack", "Split", "Gather", "Einsum",
    "Dropout", "Dropout2d", "DropPath", "GaussianNoise",
    "SoftmaxCE", "FocalCE", "MulticlassSVM", "SigmoidCE", "ClippedNLL", "LogisticLikelihood",
    "SquaredError", "AbsoluteError", "Huber", "Quantile", "PoissonNLL", "GaussianNLL", "KLDivergence",
    "Triplet", "CosineEmbedding", "L2Regularizer", "L1Regularizer",
]  # fmt: skip
