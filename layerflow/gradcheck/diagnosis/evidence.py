"""The numbers on which hypotheses about a wrong gradient are tested."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from layerflow.gradcheck.behaviour import Observation
from layerflow.gradcheck.diagnosis.replay import Replay
from layerflow.gradcheck.differences import columns
from layerflow.gradcheck.subject import Subject, Tensor, element_line, flat, is_real
from layerflow.gradcheck.verdicts import Measured
from layerflow.parameter import Array

CLOSE = 1e-7  # relative difference up to which a prediction counts as what backward returned
LARGEST_JACOBIAN = 400_000  # elements; a larger one is not measured


@dataclass(frozen=True)
class Finding:
    """A hypothesis that fits.

    Attributes:
        cause: a few words, the same for the same mistake.
        formula: what the analytic gradient equals, as in "analytic = 2 x numeric".
        meaning: what that means.
        place: where to look; "{gate}" and "{tensor}" are filled in.
    """

    cause: str
    formula: str
    meaning: str
    place: str


class Evidence:
    """All there is to know about one wrong gradient.

    Attributes:
        analytic, numeric: the two gradients, in the tensor's shape.
        known: the elements where they can be compared.
        upstream: the random upstream gradient, in the output's shape.
        output: the output.
        value: the tensor itself.
    """

    def __init__(
        self, subject: Subject, observation: Observation, measured: Measured, others: list[Measured], replay: Replay
    ) -> None:
        self.replay = replay
        self.subject = subject
        self.observation = observation
        self.others = others
        self.name, self.kind = measured.name, measured.kind
        self.analytic, self.numeric, self.known = measured.analytic, measured.numeric, measured.known
        self.error = measured.error
        self.tensor: Tensor = next(tensor for tensor in subject.tensors if tensor.name == measured.name)
        self.value = self.tensor.value
        self.has_one_output = not isinstance(observation.output, tuple)
        self.output = np.asarray(observation.output) if self.has_one_output else flat(observation.output)
        self.upstream = observation.upstream[0] if self.has_one_output else flat(tuple(observation.upstream))

    # Comparing ---------------------------------------------------------------------------------------------------

    @cached_property
    def scale(self) -> float:
        """The largest number among the two gradients."""
        both = np.abs(np.concatenate([self.analytic[self.known], self.numeric[self.known]]))
        return float(np.max(both, initial=0.0, where=np.isfinite(both)))

    def tolerance(self, prediction: Array) -> Array:
        """The difference from `prediction` that is put down to rounding, per element."""
        return np.asarray(CLOSE * np.abs(prediction) + 1e-10 * self.scale + 10.0 * self.error)

    def same(self, prediction: Any) -> Array:
        """Where backward returned this."""
        prediction = np.asarray(prediction, dtype=np.float64)
        with np.errstate(all="ignore"):
            return np.asarray(np.abs(self.analytic - prediction) <= self.tolerance(prediction))

    @cached_property
    def right(self) -> Array:
        """Where the gradient is right."""
        return self.same(self.numeric)

    def is_zero(self, gradient: Array) -> Array:
        """Where a gradient is zero as far as can be measured."""
        return np.asarray(np.abs(gradient) <= 1e-9 * self.scale + 10.0 * self.error)

    def fits(self, prediction: Any, where: Array | None = None) -> bool:
        """Whether backward returned `prediction`, at all elements where it can be told (or at those given)."""
        prediction = np.asarray(prediction, dtype=np.float64)
        if prediction.shape != self.analytic.shape:
            return False
        chosen = self.known if where is None else self.known & where
        if not np.any(chosen & ~self.right) or not np.all(np.isfinite(prediction[chosen])):
            return False
        return bool(np.all(self.same(prediction)[chosen]))

    def fitting_factor(self, prediction: Any) -> float | None:
        """The simple factor by which `prediction` fits: 1, or with enough elements -1, 2, 1/2, N, 1/N; or None."""
        if self.fits(prediction):
            return 1.0
        if self.count < 4:
            return None
        batch = float(self.batch or 1)
        simple = (-1.0, 2.0, 0.5, -2.0, -0.5, batch, 1.0 / batch, -batch, -1.0 / batch)
        return next((factor for factor in simple if self.fits(factor * np.asarray(prediction))), None)

    @property
    def count(self) -> int:
        """How many elements can be compared."""
        return int(np.sum(self.known))

    # Shapes ------------------------------------------------------------------------------------------------------

    @cached_property
    def batch(self) -> int | None:
        """The number of samples: the length of the first axis of the first input, unless that has none."""
        first = self.subject.inputs[0] if self.subject.inputs else np.zeros(())
        return len(first) if first.ndim else None

    @cached_property
    def label_positions(self) -> Array:
        """Where, in a tensor of (samples, classes), the right classes are; nowhere if no input is labels."""
        at = np.zeros(self.value.shape, dtype=bool)
        for x in self.subject.inputs:
            fits = self.value.ndim == 2 and x.shape == self.value.shape[:1] and x.dtype.kind in "iu" and x.size
            if fits and x.min() >= 0 and x.max() < self.value.shape[1]:
                at[np.arange(len(x)), x] = True
        return at

    # More measurements -------------------------------------------------------------------------------------------

    @cached_property
    def jacobian(self) -> Array | None:
        """The numeric Jacobian (outputs, elements) of the tensor; None where it would be too large."""
        if self.output.size * self.value.size > LARGEST_JACOBIAN or not self.value.size or not self.output.size:
            return None
        return self.measure_jacobian()

    @cached_property
    def reached(self) -> Array:
        """Where the Jacobian is not 0: which output each element reaches."""
        jacobian = self.jacobian
        assert jacobian is not None
        return np.asarray(np.abs(jacobian) > 1e-9 * np.max(np.abs(jacobian), initial=1e-300))

    @cached_property
    def selects(self) -> bool:
        """Whether every output is one element of the input, as in max pooling."""
        is_one = bool(np.all(np.count_nonzero(self.reached, axis=1) == 1))
        return is_one and self.kind == "input" and not self.is_elementwise

    @cached_property
    def window(self) -> Array:
        """Which output each element can reach at all: those that change when it becomes very large or very small."""
        base, found = self.subject.run(), self.reached.copy()
        far = 1e3 * max(float(np.max(np.abs(self.value), initial=0.0)), 1.0)
        for position in range(self.value.size):
            line = element_line(self.subject, self.tensor, position)
            for step in (far, -far):
                try:
                    with np.errstate(all="ignore"):
                        found[:, position] |= line.at(step) != base
                except Exception:  # the gate may refuse that point
                    continue
        return found

    @cached_property
    def parts(self) -> Array | None:
        """The contribution of every output to every element, in the shape (*output, elements)."""
        jacobian = self.jacobian
        if jacobian is None or self.output.ndim == 0 or not np.all(np.isfinite(jacobian)):
            return None
        return (self.upstream.reshape(-1, 1) * jacobian).reshape(*self.output.shape, -1)

    def measure_jacobian(self) -> Array:
        """The numeric Jacobian at the values that the subject's tensors have at the moment."""
        lines = [element_line(self.subject, self.tensor, i) for i in range(self.value.size)]
        return columns(lines, self.subject.run())

    @cached_property
    def is_elementwise(self) -> bool:
        """Whether every output element depends on the element at its own place alone."""
        jacobian = self.jacobian
        if jacobian is None or self.output.shape != self.value.shape:
            return False
        return bool(
            np.all(np.abs(jacobian - np.diag(np.diag(jacobian))) <= 1e-8 * np.max(np.abs(jacobian), initial=1e-300))
        )

    @contextmanager
    def moved(self, tensor: Tensor, value: Array) -> Iterator[None]:
        """Give a tensor other values for a while."""
        before = tensor.value.copy()
        tensor.value[...] = value
        try:
            yield
        finally:
            tensor.value[...] = before

    def direction(self, which: int) -> Array:
        """A random direction; not from seed 0, with which people draw their inputs: it would be one of them."""
        move = np.random.default_rng((77141, which)).normal(size=self.value.shape)
        return np.where(self.known, move, 0.0)

    def is_plausible(self) -> bool:
        """Whether the slope along one random direction, at the present values, is what backward returned."""
        move = self.direction(0)
        step, value = 2.0**-13, self.value.copy()
        try:
            with np.errstate(all="ignore"), self.moved(self.tensor, value + step * move):
                above = self.subject.run()
            with np.errstate(all="ignore"), self.moved(self.tensor, value - step * move):
                below = self.subject.run()
        except Exception:  # the gate may refuse that point
            return False
        slope = float(self.upstream.reshape(-1) @ (above - below)) / (2.0 * step)
        size = float(np.sqrt(np.sum((self.analytic * move) ** 2)))
        return abs(slope - float(np.sum(self.analytic * move))) <= 1e-5 * size

    def numeric_at(self, value: Array) -> Array | None:
        """The gradient from differences where the tensor has another value; None where that cannot be measured."""
        if (
            value.shape != self.value.shape
            or self.output.size * value.size > LARGEST_JACOBIAN
            or not np.all(np.isfinite(value))
        ):
            return None
        try:
            with self.moved(self.tensor, value), np.errstate(all="ignore"):
                gradient = self.upstream.reshape(-1) @ self.measure_jacobian()
        except Exception:  # the gate may refuse that point
            return None
        return gradient.reshape(self.value.shape) if np.all(np.isfinite(gradient)) else None

    @cached_property
    def real_inputs(self) -> dict[str, Array]:
        """The inputs that are differentiated, by name."""
        return {name: x for name, x in zip(self.subject.input_names, self.subject.inputs, strict=True) if is_real(x)}


Hypothesis = Callable[[Evidence], Finding | None]


def besides(factor: float) -> str:
    """The words for a factor that a gradient has on top of another mistake."""
    return "" if factor == 1.0 else f", and besides by {number(factor)}"


def number(value: float) -> str:
    """A number as people write it."""
    if value and abs(value) < 1.0 and abs(round(1.0 / value) - 1.0 / value) < 1e-6 * abs(1.0 / value):
        return f"{'-' if value < 0 else ''}1/{round(abs(1.0 / value))}"
    return f"{value:.6g}"
