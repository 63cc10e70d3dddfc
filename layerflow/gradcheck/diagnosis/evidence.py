"""The numbers on which hypotheses about a wrong gradient are tested."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from layerflow.gradcheck.behaviour import Observation
from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.recording import Replay
from layerflow.gradcheck.differences import columns
from layerflow.gradcheck.subject import Subject, direction_line, element_line, flat, is_real
from layerflow.gradcheck.verdicts import Measured
from layerflow.parameter import Array

CLOSE = 1e-7  # relative difference up to which a prediction counts as what backward returned
LARGEST_JACOBIAN = 400_000  # elements; a larger one is not measured
INTERMEDIATES = 60  # of forward's operations, whose results may be a factor


class Evidence:
    """All there is to know about one wrong gradient.

    Attributes:
        analytic, numeric: the two gradients, in the tensor's shape.
        known: the elements where they can be compared.
        upstream: the random upstream gradient, in the output's shape (several outputs are one vector).
        output: the output.
        value: the tensor itself.
    """

    def __init__(
        self, subject: Subject, observation: Observation, measured: Measured, others: list[Measured], replay: Replay
    ) -> None:
        self.subject, self.observation, self.others, self.replay = subject, observation, others, replay
        self.tensor, self.value = measured.tensor, measured.tensor.value
        self.name, self.kind = self.tensor.name, self.tensor.kind
        self.analytic, self.numeric, self.known = measured.analytic, measured.numeric, measured.known
        self.error = measured.error
        if isinstance(observation.output, tuple):
            self.output, self.upstream = flat(observation.output), flat(tuple(observation.upstream))
        else:
            self.output, self.upstream = np.asarray(observation.output), observation.upstream[0]

    # Comparing ---------------------------------------------------------------------------------------------------

    @cached_property
    def scale(self) -> float:
        """The largest number among the two gradients."""
        both = np.abs(np.concatenate([self.analytic[self.known], self.numeric[self.known]]))
        return float(np.max(both, initial=0.0, where=np.isfinite(both)))

    def tolerance(self, prediction: Array) -> Array:
        """The difference from `prediction` that rounding explains, per element."""
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

    @cached_property
    def wrong(self) -> Array:
        """Where the gradient is known to be wrong."""
        return self.known & ~self.right

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
    def settings(self) -> dict[str, int | float]:
        """The gate's attributes that are numbers, such as a stride or a rate."""
        attributes = vars(self.subject.gate).items()
        return {k: v for k, v in attributes if isinstance(v, int | float) and not isinstance(v, bool)}

    @cached_property
    def label_positions(self) -> Array:
        """Where, in a tensor of (samples, classes), the right classes are; nowhere if no input is labels."""
        at = np.zeros(self.value.shape, dtype=bool)
        for x in self.subject.inputs:
            fits = self.value.ndim == 2 and x.shape == self.value.shape[:1] and x.dtype.kind in "iu" and x.size
            if fits and x.min() >= 0 and x.max() < self.value.shape[1]:
                at[np.arange(len(x)), x] = True
        return at

    def known_arrays(self, intermediates: bool = True) -> Iterator[tuple[str, Array]]:
        """The arrays that can be a factor of the gradient: inputs, parameters, output, and what forward computes."""
        inputs = zip(self.subject.input_names, self.subject.inputs, strict=True)
        arrays = {name: x for name, x in inputs if is_real(x)}
        arrays |= {name: parameter.value for name, parameter in self.subject.gate.named_parameters().items()}
        arrays["the output"] = self.output
        for call in self.replay.calls[:INTERMEDIATES] if intermediates else ():
            arrays.setdefault(call.text, call.result)
        shape = self.value.shape
        for name, array in arrays.items():
            forms = [array]
            if array.ndim == 1 and len(shape) == 2 and shape[0] == array.size:
                forms.append(array[:, None])
            if array.ndim == 1 and len(shape) == 4 and shape[1] == array.size:
                forms.append(array[:, None, None])
            for form in forms:
                q = broadcast(form, shape)
                if q is not None and np.all(q != 0.0) and np.ptp(q) > 1e-6 * np.max(np.abs(q), initial=0.0):
                    yield name, q

    # More measurements -------------------------------------------------------------------------------------------

    @cached_property
    def jacobian(self) -> Array | None:
        """The numeric Jacobian (outputs, elements) of the tensor; None where it would be too large."""
        return self._measure_jacobian()

    def _measure_jacobian(self) -> Array | None:
        """The same at the values that the subject's tensors have at the moment."""
        if self.output.size * self.value.size > LARGEST_JACOBIAN or not self.value.size or not self.output.size:
            return None
        lines = [element_line(self.subject, self.tensor, i) for i in range(self.value.size)]
        return columns(lines, self.subject.run())

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
        """The contribution of every element of the output to every element, in the shape (*output, elements)."""
        jacobian = self.jacobian
        has_axes = self.output.ndim > 0 and not isinstance(self.observation.output, tuple)
        if jacobian is None or not has_axes or not np.all(np.isfinite(jacobian)):
            return None
        return (self.upstream.reshape(-1, 1) * jacobian).reshape(*self.output.shape, -1)

    @cached_property
    def is_elementwise(self) -> bool:
        """Whether every output element depends on the element at its own place alone."""
        jacobian = self.jacobian
        if jacobian is None or self.output.shape != self.value.shape:
            return False
        off = np.abs(jacobian - np.diag(np.diag(jacobian)))
        return bool(np.all(off <= 1e-8 * np.max(np.abs(jacobian), initial=1e-300)))

    def direction(self, which: int) -> Array:
        """A random direction; not from seed 0, with which people draw their inputs: it would be one of them."""
        move = np.random.default_rng((77141, which)).normal(size=self.value.shape)
        return np.where(self.known, move, 0.0)

    def fits_gradient_here(self) -> bool:
        """Whether backward returned the gradient for the values that the subject has at the moment."""
        weights, move, step = self.upstream.reshape(-1), self.direction(0), 2.0**-13
        line = direction_line(self.subject, self.tensor, move)
        try:
            with np.errstate(all="ignore"):
                slope = float(weights @ (line.at(step) - line.at(-step))) / (2.0 * step)
                if not abs(slope - float(np.sum(self.analytic * move))) <= 1e-5 * np.linalg.norm(self.analytic * move):
                    return False
                jacobian = self._measure_jacobian()
        except Exception:  # the gate may refuse that point
            return False
        return jacobian is not None and self.fits((weights @ jacobian).reshape(self.value.shape))


Hypothesis = Callable[[Evidence], Finding | None]


def besides(factor: float) -> str:
    """The words for a factor that a gradient has on top of another mistake."""
    return "" if factor == 1.0 else f", times {number(factor)}"


def number(value: float) -> str:
    """A number as people write it."""
    if value and abs(value) < 1.0 and abs(round(1.0 / value) - 1.0 / value) < 1e-6 * abs(1.0 / value):
        return f"{'-' if value < 0 else ''}1/{round(abs(1.0 / value))}"
    return f"{value:.6g}"


def listed(axes: tuple[int, ...]) -> str:
    """Axes in words."""
    return " and ".join(map(str, axes))


def subsets(ndim: int) -> Iterator[tuple[int, ...]]:
    """All sets of axes, the smaller ones first."""
    for size in range(1, ndim + 1):
        yield from combinations(range(ndim), size)


def broadcast(array: Array, shape: tuple[int, ...]) -> Array | None:
    """The array in another shape; None where it does not broadcast to it."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return None


def along(array: Array, axis: int, ndim: int) -> Array:
    """A vector along one axis of an array of `ndim` axes."""
    return array.reshape([-1 if i == axis else 1 for i in range(ndim)])
