"""Many steps in one call of the engine, between two moments at which callbacks look."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from layerflow.data.batches import parts_of
from layerflow.training.callbacks import Callback
from layerflow.training.state import State

LONGEST = 0.05  # seconds in one call, after which callbacks, and with them signals, are looked after


def takes_many(state: State, callbacks: Sequence[Callback]) -> bool:
    """Whether the engine takes many steps at once: of whole arrays in memory, with nobody who counts each step."""
    batches = state.batches
    data = *parts_of(batches.x), *parts_of(batches.y)
    is_in_memory = all(type(part) is np.ndarray and part.flags.c_contiguous for part in data)
    counts_steps = any(type(c).step_ended is not Callback.step_ended and c.every_step for c in callbacks)
    return state.engine.update is not None and is_in_memory and not batches.augment and not counts_steps


def single_batches(state: State, after_step: Sequence[Callable[[State], None]]) -> Iterator[tuple[Any, Any]]:
    """Take steps many at a time; yield the batches that are taken one by one, such as the last of an epoch."""
    batches = state.batches
    order = batches.order(state.epoch)
    full = min(len(order) // batches.batch_size, len(batches) - 1)
    room = min(len(kept) for kept in state.scores.values()) // batches.batch_size
    while state.step < len(batches):
        started, count = time.perf_counter(), min(state.stride, full - state.step, room)
        done = _taken(state, order, count) if count > 0 else 0
        if done:
            state.stride = max(1, int(LONGEST * done / max(time.perf_counter() - started, 1e-9)))
            for call in after_step:
                call(state)
        else:
            rows = order[state.step * batches.batch_size : (state.step + 1) * batches.batch_size]
            yield batches.x.take(rows, axis=0), batches.y.take(rows, axis=0)


def _taken(state: State, order: Any, count: int) -> int:
    """Take up to `count` steps; return how many."""
    batches, size = state.batches, state.batches.batch_size
    rows = order[state.step * size : (state.step + count) * size].reshape(count, size)
    done, found = state.engine.take_steps((*parts_of(batches.x), *parts_of(batches.y)), rows)
    if done:
        values, losses, *others = found
        scores = [part.reshape(-1, *part.shape[2:]) for part in others[: len(state.scores)]]
        y = batches.y.take(rows[:done].ravel(), axis=0)
        state.gather(values.tolist(), losses.tolist(), [*scores, *others[len(state.scores) :]], y)
        state.step += done
    return done
