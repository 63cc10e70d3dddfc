"""layerflow: neural networks made of explicit gates; every derivative can be read, and every one is proven.

import layerflow as lf

model = lf.Sequential(lf.Linear(32), lf.ReLU(), lf.Linear(10))
lf.assert_gradients(model, x)
lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.1)).fit(x, labels)
"""

import importlib
from typing import TYPE_CHECKING, Any

from layerflow import gates
from layerflow.containers import ComputationalGraph, Node, Sequential
from layerflow.errors import ConfigError, DataError, DivergedError, GateError, LayerflowError
from layerflow.gate import Gate
from layerflow.gates import *  # noqa: F403
from layerflow.parameter import Buffer, Parameter
from layerflow.store import ParameterStore

if TYPE_CHECKING:
    from layerflow.config import load_config
    from layerflow.gradcheck import assert_gradients, check_gradients, jacobian, numeric_jacobian
    from layerflow.runs.model import load_model, save_model
    from layerflow.training.callback import Callback
    from layerflow.training.history import EarlyStopping, History
    from layerflow.training.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
    from layerflow.training.schedules import (
        Constant,
        Cosine,
        Exponential,
        MultiStep,
        ReduceOnPlateau,
        Schedule,
        Step,
        Warmup,
    )
    from layerflow.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 (by subject)
    "Gate", "Parameter", "Buffer", "ParameterStore", "Sequential", "ComputationalGraph", "Node",
    "check_gradients", "assert_gradients", "jacobian", "numeric_jacobian",
    "Trainer", "History", "EarlyStopping", "Callback", "load_config", "load_model", "save_model",
    "Optimizer", "SGD", "Adam", "AdamW", "RMSprop", "Adagrad",
    "Schedule", "Constant", "Step", "MultiStep", "Exponential", "Cosine", "Warmup", "ReduceOnPlateau",
    "LayerflowError", "GateError", "ConfigError", "DataError", "DivergedError",
]  # fmt: skip
__all__ += gates.__all__

# Imported when they are first asked for, so that a script that only needs gates starts as fast as NumPy does.
_LATER = {
    "layerflow.config": ("load_config",),
    "layerflow.runs.model": ("load_model", "save_model"),
    "layerflow.gradcheck": ("assert_gradients", "check_gradients", "jacobian", "numeric_jacobian"),
    "layerflow.training.history": ("EarlyStopping", "History"),
    "layerflow.training.callback": ("Callback",),
    "layerflow.training.optimizers": ("SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"),
    "layerflow.training.schedules": (
        "Constant", "Cosine", "Exponential", "MultiStep", "ReduceOnPlateau", "Schedule", "Step", "Warmup",
    ),
    "layerflow.training.trainer": ("Trainer",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'layerflow' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
