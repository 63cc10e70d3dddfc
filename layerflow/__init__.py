"""layerflow: neural networks made of explicit gates; every derivative can be read, and every one is proven.

import layerflow as lf

model = lf.Sequential(lf.Linear(32), lf.ReLU(), lf.Linear(10))
lf.assert_gradients(model, x)
lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.1)).fit(x, labels)
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerflow import gates
from layerflow.containers import ComputationalGraph, Node, Sequential
from layerflow.containers.container import Container
from layerflow.errors import ConfigError, DataError, DivergedError, GateError, LayerflowError
from layerflow.gate import Gate
from layerflow.parameter import Buffer, Parameter
from layerflow.store import ParameterStore

if TYPE_CHECKING:
    from layerflow.blocks import Parallel, Recurrent, Residual
    from layerflow.config import load_config
    from layerflow.gates import *  # noqa: F403
    from layerflow.gradcheck import assert_gradients, check_gradients, jacobian, numeric_jacobian
    from layerflow.interop.functions import gate_from
    from layerflow.interop.onnx.exporting import export_onnx
    from layerflow.interop.onnx.importing import import_onnx
    from layerflow.runs.model import load_model, save_model
    from layerflow.training.adaptive import Adadelta, Adagrad, Adamax, Lion, NAdam, RAdam
    from layerflow.training.averaging import EMA, SWA
    from layerflow.training.callbacks import Callback
    from layerflow.training.history import EarlyStopping, History
    from layerflow.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
    from layerflow.training.quasi_newton import LBFGS
    from layerflow.training.schedules import (
        Constant,
        Cosine,
        CosineWarmRestarts,
        Cyclic,
        Exponential,
        MultiStep,
        OneCycle,
        Polynomial,
        ReduceOnPlateau,
        Schedule,
        Step,
        Warmup,
    )
    from layerflow.training.trainer import Trainer


def _draw(self: Container | Node, path: str | os.PathLike[str], values: bool = True) -> Path:
    """Draw the graph into a file; of a node, everything that it depends on.

    Args:
        self: the container or node.
        path: `.svg`, `.png`, `.html` (a page that walks through both sweeps), `.dot`, `.mmd` (Mermaid) or `.txt`.
        values: whether values are written above the wires and gradients below, as far as there are any.

    Raises:
        LayerflowError: an unknown ending; what the format needs is not installed; the file cannot be written.
    """
    from layerflow.report.graph import draw

    return draw(self, path, values)


def _mimebundle(self: Container | Node, include: object = None, exclude: object = None) -> dict[str, str]:
    """What a notebook shows: the picture, where it can be laid out, and else the table."""
    from layerflow.report.graph import bundle

    return bundle(self)


def _summary(self: Container) -> str:
    """A table of the steps: name, gate, output shape, number of parameters (shared ones counted once).

    Raises:
        GateError: shapes are not known yet.
    """
    from layerflow.report.graph import summary

    return summary(self)


# Pictures and tables are made by the reports, which the core does not know: the methods are added here.
Container.summary = _summary
_drawn: Any
for _drawn in (Container, Node):
    _drawn.draw = _draw
    _drawn._repr_mimebundle_ = _mimebundle

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 (by subject)
    "Gate", "Parameter", "Buffer", "ParameterStore", "Sequential", "ComputationalGraph", "Node",
    "Residual", "Parallel", "Recurrent",
    "gate_from", "check_gradients", "assert_gradients", "jacobian", "numeric_jacobian",
    "Trainer", "History", "EarlyStopping", "EMA", "SWA", "Callback", "load_config", "load_model", "save_model",
    "export_onnx", "import_onnx",
    "Optimizer", "SGD", "Adam", "AdamW", "RMSprop", "Adagrad",
    "NAdam", "RAdam", "Adamax", "Lion", "Adadelta", "LBFGS",
    "Schedule", "Constant", "Step", "MultiStep", "Exponential", "Polynomial", "Cosine", "CosineWarmRestarts",
    "OneCycle", "Cyclic", "Warmup", "ReduceOnPlateau",
    "LayerflowError", "GateError", "ConfigError", "DataError", "DivergedError",
]  # fmt: skip
__all__ += gates.__all__

# Imported when they are first asked for, so that a script that only needs gates starts as fast as NumPy does.
_LATER = {
    "layerflow.blocks": ("Parallel", "Recurrent", "Residual"),
    "layerflow.config": ("load_config",),
    "layerflow.runs.model": ("load_model", "save_model"),
    "layerflow.interop.functions": ("gate_from",),
    "layerflow.interop.onnx.exporting": ("export_onnx",),
    "layerflow.interop.onnx.importing": ("import_onnx",),
    "layerflow.gradcheck": ("assert_gradients", "check_gradients", "jacobian", "numeric_jacobian"),
    "layerflow.training.history": ("EarlyStopping", "History"),
    "layerflow.training.averaging": ("EMA", "SWA"),
    "layerflow.training.callbacks": ("Callback",),
    "layerflow.training.quasi_newton": ("LBFGS",),
    "layerflow.training.adaptive": ("Adadelta", "Adagrad", "Adamax", "Lion", "NAdam", "RAdam"),
    "layerflow.training.optimizers": ("SGD", "Adam", "AdamW", "Optimizer", "RMSprop"),
    "layerflow.training.schedules": (
        "Constant", "Cosine", "CosineWarmRestarts", "Cyclic", "Exponential", "MultiStep", "OneCycle", "Polynomial",
        "ReduceOnPlateau", "Schedule", "Step", "Warmup",
    ),
    "layerflow.training.trainer": ("Trainer",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names} | dict.fromkeys(
    gates.__all__, "layerflow.gates"
)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'layerflow' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
