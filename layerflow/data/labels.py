"""Targets: class labels become indexes, numbers stay numbers."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import check_finite
from layerflow.errors import DataError, did_you_mean

Task = Literal["classification", "regression"]

Place = Callable[[int], str]
"""Returns the location of sample `i` for messages: "iris.csv:17: column 'species'" or 'train.npz: y[16]'."""

SHOWN = 8
"""The largest number of names that a message lists."""


def encode_labels(
    labels: Sequence[str], place: Place, known: tuple[str, ...] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of every label, and the class names by index.

    A class is the text of its label, so '1', '01' and '1.0' are three classes. Without `known` the classes are the
    different labels, sorted by value if all of them are numbers ('2' before '10'), alphabetically otherwise. With
    `known`, the classes of the training data, every label must be one of them.

    Raises:
        DataError: There is only one class, or a label is not in `known` (the message gives its location).
    """
    names = set(labels)
    classes = known or _sorted_classes(names)
    if len(classes) < 2:
        raise DataError(f"{place(0)}: all {len(labels)} samples are of the one class {classes[0]!r}; give at least two")
    index = {name: number for number, name in enumerate(classes)}
    if unknown := names - set(index):
        row = next(row for row, label in enumerate(labels) if label in unknown)
        value = as_number(labels[row])
        equal = [name for name in classes if value is not None and as_number(name) == value]
        hint = f", did you mean {equal[0]!r}?" if equal else did_you_mean(labels[row], classes)
        raise DataError(f"{place(row)}: class {labels[row]!r} is not one of {listed(classes)}{hint}")
    return np.fromiter((index[label] for label in labels), dtype=np.int64, count=len(labels)), classes


def encode_target(
    target: NDArray[Any], where: str, task: Task | None = None, known: tuple[str, ...] | None = None
) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return (y, classes) for a target array of shape (samples,).

    Integers, booleans and strings are class labels and floating-point numbers are values for regression, unless `task`
    says otherwise. Strings are class names as they are. An array of numbers has no spelling, so its labels are the
    integers it holds: True is '1', and the floats of a classification must be whole numbers, 1.0 being '1'.

    Raises:
        DataError: The array has another shape or dtype, holds NaN or infinity, or does not fit `task` or `known`.
    """
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.ndim != 1:
        raise DataError(f"{where}: expected one target per sample, shape (samples,), got shape {target.shape}")
    if target.dtype.kind not in "biufUS":
        raise DataError(f"{where}: expected numbers or text as targets, got dtype {target.dtype}")
    check_finite(target, where)
    if task is None:
        task = "regression" if target.dtype.kind == "f" else "classification"
    if task == "classification":
        return encode_labels(_label_texts(target, where), lambda row: f"{where}[{row}]", known)
    if target.dtype.kind in "US":
        raise DataError(f"{where}: holds text, but the task is regression; give numbers, or classification as task")
    return target.astype(np.float64), None


def _label_texts(target: NDArray[Any], where: str) -> list[str]:
    if target.dtype.kind == "S":
        try:
            target = np.char.decode(target, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: the labels are not UTF-8 ({error.reason}); save them as text") from error
    if target.dtype.kind == "U":
        return [str(label) for label in target.tolist()]
    if target.dtype.kind == "f" and (fractions := np.flatnonzero(target != np.round(target))).size:
        row = int(fractions[0])
        raise DataError(f"{where}[{row}]: {target[row]} is no class label; give whole numbers, or regression as task")
    return [str(int(label)) for label in target.tolist()]


def guess_task(cells: Sequence[str]) -> Task:
    """Return the task that the target cells of a table suggest.

    Text is classification. Numbers are regression, except whole numbers with at most 20 different texts that occur at
    least twice on average.
    """
    labels = set(cells)
    numbers = [as_number(label) for label in labels]
    if any(number is None for number in numbers):
        return "classification"
    few = len(labels) <= 20 and 2 * len(labels) <= len(cells)
    return "classification" if few and all(float(number or 0).is_integer() for number in numbers) else "regression"


def as_number(text: str) -> float | None:
    """Return the finite number that `text` spells, or None; '1_000', which Python accepts, is not a number here."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def listed(names: Sequence[object]) -> str:
    """Return the names for a message, shortened when there are many."""
    shown = ", ".join(f"{name!r:.60}" if len(repr(name)) <= 60 else f"{name!r:.57}..." for name in names[:SHOWN])
    return shown + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")


def _sorted_classes(names: set[str]) -> tuple[str, ...]:
    if any(as_number(name) is None for name in names):
        return tuple(sorted(names))
    return tuple(sorted(names, key=lambda name: (_exact(name), name)))


def _exact(text: str) -> float:
    """Return the number that a text spells; an integer keeps all of its digits."""
    try:
        return int(text)
    except ValueError:
        return float(text)
