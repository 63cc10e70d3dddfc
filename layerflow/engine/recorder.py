"""Records what NumPy code does as a program: it runs once on stand-ins for its arrays, and every operation is noted.

    program = record_gate(gate, (x, y))         # forward and backward; `gate` stays as it is
    print(program)

Functions that make arrays do not ask their arguments what to do, so `np` is another module in the code that is recorded
(`layerflow.engine.replaced`). At an `if` on numbers that the inputs decide, the other branch is tried as well. It must
raise: then the `if` is a check, and becomes a guard of the program. Where both ways lead on, the code is refused.
"""

import copy
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.engine import indexing
from layerflow.engine.numpy_functions import call_function
from layerflow.engine.program import Draw, Node, Origin, Program, behind
from layerflow.engine.replaced import modules_of, numpy_replaced
from layerflow.engine.traced import ACTIVE, Traced, guard, held_by, is_live
from layerflow.engine.ufuncs import call_ufunc, held_by_name
from layerflow.errors import RecordError
from layerflow.gate import CURRENT, Gate, find, gates_in
from layerflow.parameter import Array, Cell

HERE = os.path.dirname(__file__)
NUMPY = os.path.dirname(np.__file__)
MOST_NODES = 200_000
DRAWS = {
    "beta", "binomial", "chisquare", "choice", "exponential", "gamma", "integers", "laplace", "lognormal",
    "multivariate_normal", "normal", "permutation", "permuted", "poisson", "random", "standard_exponential",
    "standard_normal", "uniform",
}  # fmt: skip


class Recorder:
    """Holds the program while it is recorded; `traced.ACTIVE.recorder` of the thread that records.

    Args:
        forced: the outcomes of the first conditions; the next one after them goes the other way.
    """

    call_ufunc, call_function = staticmethod(call_ufunc), staticmethod(call_function)
    read, store = staticmethod(indexing.read), staticmethod(indexing.store)

    def __init__(self, forced: Sequence[bool] = ()) -> None:
        self.program, self.forced = Program(), list(forced)
        self.known: dict[Any, Node] = {}
        self.decided = 0
        self.is_exploring = False  # on the way to an error message, where numbers may be looked at

    def add(
        self, kind: str, inputs: Sequence[Node], settings: dict[str, Any], shape: Sequence[int], dtype: Any
    ) -> Node:
        """Return the node of an operation; the same operation on the same nodes is one node."""
        key = (kind, tuple([node.number for node in inputs]), *settings.items(), tuple(shape), np.dtype(dtype))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._new(kind, tuple(inputs), settings, shape, dtype)
        return found

    def _new(self, kind: str, inputs: tuple[Node, ...], settings: Any, shape: Any, dtype: Any) -> Node:
        program = self.program
        if len(program.nodes) >= MOST_NODES:
            raise RecordError(
                f"{self.origin()}: the program has more than {MOST_NODES:,} operations; a loop over many steps of time "
                "or many positions is too long to record: use shorter sequences, or engine numpy"
            )
        made = Node(len(program.nodes), kind, inputs, settings, tuple(shape), np.dtype(dtype), self.origin())
        program.nodes.append(made)
        return made

    def constant(self, value: Any) -> Node:
        """The node of an array that never changes."""
        array = np.array(value)
        key = ("constant", array.dtype, array.shape, array.tobytes())
        if key not in self.known:
            self.known[key] = self._new("constant", (), {"value": array}, array.shape, array.dtype)
        return self.known[key]

    def input(self, name: str, value: Any, is_weak: bool = False) -> Traced:
        """A stand-in for an array that is given for each run."""
        array = np.asarray(value)
        node = self.program.inputs[name] = self._new("input", (), {"name": name}, array.shape, array.dtype)
        return Traced(node, array, is_weak)

    def node(self, value: Any, dtype: Any = None) -> Node:
        """The node of a value, converted to a type."""
        if isinstance(value, Traced):
            found = value.node
        else:
            found = self.constant(np.asarray(value, dtype if isinstance(value, int | float) else None))
        if dtype is None or found.dtype == dtype:
            return found
        if found.kind == "constant":
            return self.constant(found.settings["value"].astype(dtype))
        return self.add("elementwise", (found,), {"function": "cast"}, found.shape, dtype)

    def decide(self, condition: Traced) -> bool:
        """The outcome of an `if`, which becomes a guard."""
        outcome = bool(condition.value)
        if not self.is_exploring:
            if self.decided < len(self.forced) and self.forced[self.decided] != outcome:
                self.is_exploring, outcome = True, not outcome
            self.decided += 1
            guard(condition.astype(bool, copy=False).node, outcome)
        return outcome

    def origin(self) -> Origin | None:
        """The gate and the line of code that is running."""
        frame: Any = sys._getframe(1)
        place = None
        while frame is not None:
            file = frame.f_code.co_filename
            if not file.startswith((HERE, NUMPY, "<")):
                place = place or (file, frame.f_lineno)
                own = frame.f_locals.get("self")
                if isinstance(own, Gate) and not isinstance(own, Container):
                    return Origin(*place, type(own).__name__)
                if not isinstance(own, Gate | Cell) and own is not None and place[0] != file:
                    break
            elif place is not None and file.startswith(HERE):
                break
            frame = frame.f_back
        return None if place is None else Origin(*place, "")


class Draws:
    """Stands for a random generator: it notes which draws are made, and makes them from a copy."""

    def __init__(self, generator: Any, name: str, active: Recorder) -> None:
        self.generator, self.name, self.active = generator, name, active

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("__") or method not in DRAWS:
            raise RecordError(
                f"{self.active.origin()}: generator.{method} cannot be recorded; there are {', '.join(sorted(DRAWS))}"
            )

        def draw(*args: Any, **named: Any) -> Any:
            if is_live((*args, *named.values())):
                raise RecordError(
                    f"{self.active.origin()}: generator.{method} with arguments that depend on the inputs; draw from "
                    "fixed ones, and scale the result"
                )
            args, named = held_by(args), held_by_name(named)
            name = f"draw{len(self.active.program.draws)}"
            self.active.program.draws.append(Draw(name, self.name, method, args, named))
            return self.active.input(name, getattr(self.generator, method)(*args, **named))

        return draw


def record(run: Callable[[Recorder], Mapping[str, Any]], modules: Sequence[Any] = ()) -> Program:
    """Record a function that makes inputs by `recorder.input(name, array)` and returns named results.

    It is called once, and once more for each `if` that the inputs decide.

    Args:
        run: the function; it must leave everything outside as it was.
        modules: the modules of the code that is recorded.

    Raises:
        RecordError: the code does something that no program can do; which line, and what to write instead.
    """
    program = _recorded(run, modules, ())
    outcomes = [each.expected for each in program.guards if not each.is_implied]
    asked = [each for each in program.guards if not each.is_implied]
    for number, each in enumerate(asked):
        if depends_on_settings_alone(each.node):
            continue
        try:
            _recorded(run, modules, (*outcomes[:number], not each.expected))
        except RecordError:
            raise
        except Exception:
            continue
        raise RecordError(
            f"{each.origin}: an `if` on the numbers of an array, and both ways lead on; choose with np.where"
        )
    return program


def depends_on_settings_alone(node: Node) -> bool:
    """Whether only Python numbers, such as the step's, decide a condition: then the guard is enough."""
    return all(each.settings["name"].startswith("setting.") for each in behind([node]) if each.kind == "input")


def _recorded(run: Callable[[Recorder], Mapping[str, Any]], modules: Sequence[Any], forced: Sequence[bool]) -> Program:
    active = Recorder(forced)
    former, ACTIVE.recorder = getattr(ACTIVE, "recorder", None), active
    try:
        with numpy_replaced(modules), np.errstate(all="ignore"):
            active.program.outputs = {
                name: active.node(value if isinstance(value, Traced) else np.asarray(value))
                for name, value in run(active).items()
            }
    finally:
        ACTIVE.recorder = former
    return active.program


# Gates -------------------------------------------------------------------------------------------------------------


def record_gate(
    gate: Gate,
    inputs: Sequence[Array],
    upstream: Sequence[Array] | None = (),
    wanted: Sequence[int] = (),
) -> Program:
    """Record forward and backward of a built gate, on a copy of it.

    Inputs of the program are `input.0`, ...; `upstream.0`, ...; `parameter.NAME` and `buffer.NAME`. Its outputs are
    `output.0`, ...; `input_grad.0`, ..., where there is one; `grad.NAME` for each parameter and `buffer.NAME` for each
    buffer that has changed.

    Args:
        gate: the gate.
        inputs: arrays of the shapes and types that the program is for.
        upstream: the gradients of the outputs; none for scalar outputs of a container; `None` leaves backward out.
        wanted: slots of a container, whose values become the outputs `slot.0`, ...

    Raises:
        RecordError: the gate does something that no program can do.
    """

    def run(active: Recorder) -> dict[str, Any]:
        return recorded_sweeps(active, gate, inputs, upstream, wanted)

    return record(run, modules_of(gate))


def recorded_sweeps(
    active: Recorder,
    gate: Gate,
    inputs: Sequence[Array],
    upstream: Sequence[Array] | None,
    wanted: Sequence[int],
    parameters: Mapping[str, Traced] | None = None,
) -> dict[str, Any]:
    """Run forward and backward on a copy of a gate, with stand-ins; see `record_gate`.

    `parameters` are stand-ins for the parameters by name, where these are no inputs by themselves.
    """
    own = detached(gate)
    cells = own.named_parameters()
    _wrap(own, active)
    for name, parameter in own.named_parameters().items():
        given = active.input(f"parameter.{name}", parameter.value) if parameters is None else parameters[name]
        stand_in: Any = given
        stand_in.owner = f"parameter {name!r}"
        parameter._value = stand_in
    for name, buffer in own.named_buffers().items():
        stand_in = active.input(f"buffer.{name}", buffer.value)
        buffer._value = stand_in
    x = [active.input(f"input.{i}", value) for i, value in enumerate(inputs)]
    started: dict[str, Any] = {name: buffer.value for name, buffer in own.named_buffers().items()}
    started = {name: held.node for name, held in started.items()}
    for each in gates_in(own):
        each.training = gate.training
    own.needs_grad = tuple([value.dtype.kind == "f" for value in inputs])
    with CURRENT:
        output = own.bare_forward(*x)
        outputs = output if isinstance(output, tuple) else (output,)
        results: dict[str, Any] = {f"output.{i}": value for i, value in enumerate(outputs)}
        if upstream is not None:
            grads = [active.input(f"upstream.{i}", value) for i, value in enumerate(upstream)]
            input_grads, param_grads = own.bare_backward(*grads)
            results |= {f"input_grad.{i}": found for i, found in enumerate(input_grads) if found is not None}
            results |= {f"grad.{name}": found for name, found in param_grads.items()}
    if wanted:
        assert isinstance(own, Container)
        results |= {f"slot.{i}": own.values[slot] for i, slot in enumerate(wanted)}
    for name, buffer in own.named_buffers().items():
        held: Any = buffer.value
        if not isinstance(held, Traced) or held.node is not started.get(name):
            results[f"buffer.{name}"] = held
    for name, cell in cells.items():
        if own.named_parameters().get(name) is not cell:
            raise RecordError(f"{gate!r}: backward or forward puts another object in the place of {name!r}")
    return results


def detached(gate: Gate) -> Gate:
    """A copy of a gate, without what its last sweeps have left and without copying its arrays."""
    memo: dict[int, Any] = {}
    for _, each in find(gate, Gate):
        if each._saved:
            memo[id(each._saved)] = None
        if isinstance(each._memory, list):
            memo[id(each._memory)] = None
        if isinstance(each, Container):
            constants = [each.constants.get(slot) for slot in range(len(each.values))]
            memo |= {id(each.values): constants, id(each._seen): {}}
            memo |= {id(held): [None] * len(held) for held in (each.grads, each.memories)}
    for _, cell in find(gate, Cell):
        memo |= {id(cell._value): cell._value, id(getattr(cell, "grad", None)): None}
    return copy.deepcopy(gate, memo)


def _wrap(root: Gate, active: Recorder) -> None:
    """Put stand-ins in the place of the arrays and generators that gates hold in their attributes."""
    names = {id(generator): name for name, generator in root.named_generators().items()}

    def wrapped(value: Any, owner: str) -> Any:
        if isinstance(value, np.ndarray):
            return Traced.constant(value, owner)
        if id(value) in names:
            return Draws(value, names[id(value)], active)
        if type(value) in (list, tuple):
            return type(value)([wrapped(item, owner) for item in value])
        if type(value) is dict:
            return {key: wrapped(item, owner) for key, item in value.items()}
        return value

    for gate in gates_in(root):
        if not isinstance(gate, Container):
            for name, value in list(vars(gate).items()):
                vars(gate)[name] = wrapped(value, f"{type(gate).__name__}.{name}")
