"""The laws that every gate keeps, built-in or custom; each is a function that raises `AssertionError` if broken."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.errors import GateError, LayerflowError
from layerflow.gate import Gate, find
from layerflow.gradcheck.behaviour import guilty_write, observe
from layerflow.gradcheck.entry import check_gradients
from layerflow.gradcheck.recorded import same_result_when_recorded
from layerflow.gradcheck.subject import Subject, copied, is_real, outputs
from layerflow.parameter import Array

Inputs = Sequence[Any]


@dataclass(frozen=True)
class Law:
    """A law: its name, the function that checks it, and whether it applies to a gate and its inputs."""

    name: str
    check: Callable[[Gate, Inputs], None]
    applies: Callable[[Gate, Inputs], bool] = lambda gate, inputs: True


def gradients_match_differences(gate: Gate, inputs: Inputs) -> None:
    """Every gradient agrees with differences of forward; in training and in evaluation, where that can matter."""
    other = copied(gate)
    other.training = not gate.training
    has_modes = bool(gate.named_buffers() or gate.named_generators())
    for each in (gate, other) if has_modes else (gate,):
        report = check_gradients(each, *inputs)
        assert report.ok, f"{'training' if each.training else 'evaluation'}: {report}" if has_modes else str(report)


def nothing_is_mutated(gate: Gate, inputs: Inputs) -> None:
    """Inputs, parameters, the upstream gradient and the saved arrays are never changed: they are made read-only."""
    subject = Subject(gate, inputs)
    observation = observe(subject)
    line = guilty_write(subject, observation.upstream)
    assert not line, f"{subject.written} writes into an array that is not its own{line}"
    for fault in observation.faults:
        assert "overwritten" not in fault.cause, str(fault)


def backward_can_be_repeated(gate: Gate, inputs: Inputs) -> None:
    """A second backward after one forward gives the same gradients."""
    subject = Subject(gate, inputs)
    upstream = subject.upstream(subject.forward())
    first = _copied(subject.backward(upstream))
    _assert_same(subject, first, subject.backward(upstream), 0.0, "a second backward gives another gradient")


def backward_is_linear(gate: Gate, inputs: Inputs) -> None:
    """backward(2g - 3h) = 2 backward(g) - 3 backward(h)."""
    subject = Subject(gate, inputs)
    output = subject.forward()
    g, h = subject.upstream(output), subject.upstream(output)
    of_g, of_h = (_copied(subject.backward(each)) for each in (g, h))
    both = subject.backward([2.0 * a - 3.0 * b for a, b in zip(g, h, strict=True)])
    combined = {
        name: None if a is None or b is None else 2.0 * a - 3.0 * b
        for (name, a), b in zip(of_g.items(), of_h.values(), strict=True)
    }
    _assert_same(subject, combined, both, 1e-9, "backward(2g - 3h) differs from 2 backward(g) - 3 backward(h)")


def dtype_is_kept(gate: Gate, inputs: Inputs) -> None:
    """float32 in, float32 out, forwards and backwards; and the same for float64."""
    for dtype in (np.float32, np.float64):
        subject = Subject(gate, inputs)
        subject.gate.astype(dtype)
        output = subject.forward(*(x.astype(dtype) if is_real(x) else x.copy() for x in subject.inputs))
        kept = _named(output)
        upstream = [g.astype(dtype) for g in subject.upstream(output)]
        kept |= {f"the gradient of {k}": g for k, g in subject.backward(upstream).items()}
        for what, array in kept.items():
            assert array is None or array.dtype == dtype, (
                f"{subject.written}: {what} is {array.dtype}, but all inputs are {dtype.__name__}"
            )


def input_need_not_be_contiguous(gate: Gate, inputs: Inputs) -> None:
    """Views with any strides give what contiguous arrays give."""
    subject = Subject(gate, inputs)
    output = subject.forward()
    upstream = subject.upstream(output)
    expected = _copied(subject.backward(upstream) | _named(output))
    strided = subject.forward(*(_strided(x) for x in subject.inputs))
    found = subject.backward([_strided(g) for g in upstream]) | _named(strided)
    _assert_same(subject, expected, found, 1e-9, "non-contiguous input gives something else")


def backward_before_forward_is_an_error(gate: Gate, inputs: Inputs) -> None:
    """Backward before any forward is a `GateError`."""
    subject = Subject(gate, inputs)
    upstream = subject.upstream(copy.deepcopy(subject.gate).forward(*subject.inputs))
    for _, inner in find(subject.gate, Gate):
        inner._ran = inner._saved = inner._memory = None
    try:
        subject.gate.backward(*upstream)
    except GateError:
        return
    raise AssertionError(
        f"{subject.written}: backward before forward raises no GateError; keep what it needs with self.save(...)"
    )


def rebuilds_from_its_arguments(gate: Gate, inputs: Inputs) -> None:
    """A gate made anew from its recorded arguments, given the same state, does the same."""
    subject = Subject(gate, inputs)
    args, kwargs = copy.deepcopy(gate._arguments)
    twin = Subject(type(gate)(*args, **kwargs), inputs)
    mine, its = subject.gate, twin.gate
    its.training = mine.training
    for kind in ("named_parameters", "named_buffers", "named_generators"):
        names, found = list(getattr(mine, kind)()), list(getattr(its, kind)())
        assert names == found, f"{subject.written}: rebuilt from its arguments it has {kind[6:]} {found}, not {names}"
    for name, cell in (mine.named_parameters() | mine.named_buffers()).items():
        (its.named_parameters() | its.named_buffers())[name].value = cell.value
    for name, generator in mine.named_generators().items():
        its.named_generators()[name].bit_generator.state = generator.bit_generator.state
    pairs = zip(outputs(mine.forward(*subject.inputs)), outputs(its.forward(*subject.inputs)), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    assert same, f"{subject.written}: rebuilt from its arguments and given the same state, it gives another output"


def batch_equals_stacked_samples(gate: Gate, inputs: Inputs) -> None:
    """Sample by sample gives what the whole batch gives."""
    subject = Subject(gate, inputs)
    whole = np.array(subject.forward())
    single = [subject.forward(*(x[i : i + 1] for x in subject.inputs)).copy() for i in range(len(whole))]
    same = np.allclose(np.concatenate(single), whole, rtol=1e-9, atol=1e-12)
    assert same, (
        f"{subject.written}: a sample by itself gives another output than in its batch, "
        "though no sample depends on another"
    )


def treats_samples_apart(gate: Gate, inputs: Inputs) -> bool:
    """Whether inputs and output have one row per sample, and no row of the output depends on another's input."""
    subject = Subject(gate, inputs)
    rows = {len(x) if x.ndim else -1 for x in subject.inputs}
    if len(rows) != 1 or min(rows) < 2 or subject.gate.named_generators():
        return False
    whole = subject.forward()
    if isinstance(whole, tuple) or np.ndim(whole) == 0 or len(whole) != min(rows):
        return False
    whole = whole.copy()
    for i in range(len(whole)):
        moved = [x.copy() for x in subject.inputs]
        for x in moved:
            if is_real(x):
                x[i] *= 0.9
        changed = np.any(np.reshape(subject.forward(*moved) != whole, (len(whole), -1)), axis=1)
        if np.any(np.delete(changed, i)):
            return False
    return True


LAWS = (
    Law("gradients match differences", gradients_match_differences),
    Law("nothing is mutated", nothing_is_mutated),
    Law("backward can be repeated", backward_can_be_repeated),
    Law("backward is linear", backward_is_linear),
    Law("dtype is kept", dtype_is_kept),
    Law("input need not be contiguous", input_need_not_be_contiguous),
    Law("backward before forward is an error", backward_before_forward_is_an_error),
    Law("rebuilds from its arguments", rebuilds_from_its_arguments),
    Law("batch equals stacked samples", batch_equals_stacked_samples, treats_samples_apart),
    Law("same result when recorded", same_result_when_recorded),
)


def check_gate(gate: Gate, *inputs: Any) -> None:
    """Check every law on a gate and its inputs.

    Raises:
        AssertionError: some laws are broken; the message says which, and how each shows itself.
    """
    broken = []
    for law in LAWS:
        try:
            if law.applies(gate, inputs):
                law.check(gate, inputs)
        except (AssertionError, LayerflowError) as error:
            broken.append(f"{law.name}:\n{error}")
    if broken:
        raise AssertionError(f"{gate!r} breaks {len(broken)} of {len(LAWS)} laws\n\n" + "\n\n".join(broken))


def law_tests(cases: Iterable[tuple[Any, ...]]) -> Callable[..., None]:
    """Return a pytest test function that runs once per case and law that applies to it.

    Args:
        cases: tuples of a gate and its inputs, `(gate, x)` or `(gate, (x, labels))`.
    """
    import pytest

    split = [(case[0], case[1] if len(case) == 2 and isinstance(case[1], tuple) else tuple(case[1:])) for case in cases]
    pairs = [
        pytest.param(gate, inputs, law, id=f"{type(gate).__name__}{index}-{law.name.replace(' ', '_')}")
        for index, (gate, inputs) in enumerate(split)
        for law in LAWS
        if law.applies(gate, inputs)
    ]

    @pytest.mark.parametrize(("gate", "inputs", "law"), pairs)
    def test_law(gate: Gate, inputs: tuple[Any, ...], law: Law) -> None:
        law.check(gate, inputs)

    parametrized: Callable[..., None] = test_law
    return parametrized


def _assert_same(
    subject: Subject, expected: dict[str, Array | None], found: dict[str, Array | None], rtol: float, problem: str
) -> None:
    for name, a in expected.items():
        b = found[name]
        if a is None or b is None:
            assert a is b, f"{subject.written}: {problem}: None for {name} once, an array the other time"
            continue
        scale = float(np.max(np.abs(a), initial=0.0))
        assert np.allclose(a, b, rtol=rtol, atol=rtol * scale), f"{subject.written}: {problem} ({name})"


def _copied(grads: dict[str, Array | None]) -> dict[str, Array | None]:
    return {name: None if grad is None else np.array(grad) for name, grad in grads.items()}


def _named(output: Any) -> dict[str, Array | None]:
    parts = outputs(output)
    return {"output" if len(parts) == 1 else f"output {i}": np.asarray(part) for i, part in enumerate(parts)}


def _strided(array: Array) -> Array:
    """A view with the same elements whose strides are neither positive throughout nor dense."""
    if array.ndim == 0:
        return array
    room = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view = room[..., ::-2]
    view[...] = array
    return view
