"""A whole training step as one program: both sweeps, clipping and the optimizer's update."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.engine.numpy import Update
from layerflow.engine.program import Program
from layerflow.engine.recorder import Recorder, record, recorded_sweeps
from layerflow.engine.replaced import modules_of
from layerflow.engine.traced import Traced, guard
from layerflow.parameter import Array
from layerflow.store import ParameterStore


def record_step(
    container: Container, inputs: Sequence[Array], wanted: Sequence[int], store: ParameterStore, update: Update
) -> Program:
    """Record a training step.

    Inputs beside those of `record_gate`: `values`, all parameters in one vector; `slot.NAME`, the vectors of the
    optimizer; `setting.lr` and `setting.step`, the number of the step. Outputs of the same names are their next values;
    `grads` are all gradients, before clipping. Guards make sure that loss and gradients are finite.

    Raises:
        RecordError: something in it cannot be recorded.
    """
    names = {id(parameter): name for name, parameter in container.named_parameters().items()}

    def run(active: Recorder) -> dict[str, Any]:
        values: Any = active.input("values", store.values.copy())
        parameters, offset = {}, 0
        for parameter in store.parameters:
            shape, stop = parameter.value.shape, offset + parameter.value.size
            parameters[names[id(parameter)]] = values[offset:stop].reshape(shape)
            offset = stop
        found = recorded_sweeps(active, container, inputs, (), wanted, parameters)
        pieces = [np.ravel(found[f"grad.{names[id(parameter)]}"]) for parameter in store.parameters]
        grads: Any = np.concatenate(pieces).astype(store.values.dtype)
        total: Any = np.sum(grads * grads) + found["output.0"]
        guard(np.isfinite(total).node, True, is_implied=True)
        results = {name: value for name, value in found.items() if name.startswith(("slot.", "buffer."))}
        results = {name.replace("slot.", "wanted."): value for name, value in results.items()}
        results["grads"] = grads.copy()
        lr = active.input("setting.lr", float(update.lr), is_weak=True)
        step = active.input("setting.step", float(update.steps + 1), is_weak=True)
        slots: dict[str, Traced] = {}
        starts: dict[str, float] = {}

        def slot(name: str, start: float = 0.0) -> Traced:
            if name not in slots:
                slots[name] = active.input(f"slot.{name}", np.full(store.size, start, store.values.dtype))
                starts[name] = start
            return slots[name]

        update(values, grads, lr, step, slot)
        results |= {"values": values, "setting.step": step + 1}
        active.program.starts = starts
        return results | {f"slot.{name}": vector for name, vector in slots.items()}

    modules = modules_of(container)
    for part in update.parts:
        modules += [module for module in modules_of(part) if module not in modules]
    return record(run, modules)
