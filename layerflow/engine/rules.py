"""How the steps of a container are written out as lines of a function; see `layerflow.engine.numpy`.

Names in the function: `v3` and `d3` are the value and the gradient of slot 3; `g0` is the gradient of the store's first
parameter.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.gate import Gate
from layerflow.gates.activation import ReLU
from layerflow.gates.affine import Linear
from layerflow.gates.loss import SoftmaxCE
from layerflow.parameter import Array, Parameter, as_input
from layerflow.store import ParameterStore
from layerflow.sweep import Step

Sweeps = Callable[..., tuple[Any, ...]]
UFUNCS = ("add", "divide", "exp", "greater", "log", "matmul", "maximum", "multiply", "subtract")


class Unrolled:
    """The lines of a function, and the objects that they name."""

    def __init__(self, container: Container, store: ParameterStore, wanted: tuple[int, ...]) -> None:
        self.container, self.wanted = container, wanted
        self.values: list[Any] = container.values
        self.lines: list[str] = []
        self.arrived: set[int] = set()  # the slots that have a gradient
        self.learned: set[Parameter] = set()  # the parameters that have one
        self.numbers = itertools.count()
        self.names: dict[str, Any] = {name: getattr(np, name) for name in UFUNCS}
        self.names |= {"as_input": as_input, "reduce_sum": np.add.reduce, "reduce_max": np.maximum.reduce}
        self.grad_of = {parameter: self.name("g", parameter.grad) for parameter in store.parameters}
        self.names |= {f"v{slot}": constant for slot, constant in container.constants.items()}
        for slot, parameter in container.sources.items():
            held = self.name("parameter", parameter.value)
            self.lines.append(f"v{slot} = {held}" if parameter.value.ndim else f"v{slot} = {held}[()]")
        gates = [id(gate) for step in container.steps for gate in step.gates]
        self.shared = {gate for gate in gates if gates.count(gate) > 1}
        self.users: dict[int, list[Step]] = {}
        for step in container.steps:
            for slot in (*step.reads, *step.writes):
                self.users.setdefault(slot, []).append(step)

    def compiled(self) -> Sweeps:
        """Return the function."""
        arguments = ", ".join(f"v{slot}" for slot in self.container.input_slots)
        body = [*self.lines, f"return ({', '.join(f'v{slot}' for slot in self.wanted)},)"]
        source = f"def sweeps({arguments}):\n" + "\n".join(f"    {line}" for line in body)
        exec(compile(source, "<the sweeps, unrolled>", "exec"), self.names)
        sweeps: Sweeps = self.names["sweeps"]
        return sweeps

    def name(self, kind: str, value: Any) -> str:
        """Return a new name for an object."""
        name = f"{kind}{next(self.numbers)}"
        self.names[name] = value
        return name

    def rule(self, step: Step) -> "Rule":
        """Return the rule that writes a step out."""
        if any(id(gate) in self.shared for gate in step.gates):
            return Shared()
        found = RULES.get(type(step.gate))
        return found if found is not None and found.covers(self, step) else Rule()

    def is_private(self, slot: int, of: str) -> bool:
        """Whether only steps that are written out see the value ("v") or the gradient ("d") of a slot."""
        users = self.users[slot]
        is_asked = slot in self.container.output_slots or (of == "v" and slot in self.wanted)
        if is_asked or slot in self.container.input_slots or slot in self.container.sources or len(users) != 2:
            return False
        return all(type(self.rule(step)) not in (Rule, Shared) for step in users)

    def own_array(self, of: str, slot: int, like: int | None = None) -> str:
        """Allocate an array for the value or the gradient of a slot, or take that of another slot; return its name."""
        name, other = f"{of}{slot}", f"{of}{like}"
        self.names[name] = self.names[other] if other in self.names else np.empty_like(self.values[slot])
        return name

    def arrive(self, slot: int, gradient: str) -> None:
        """A gradient arrives at a slot: the first one is borrowed, another is added into a fresh array."""
        self.lines.append(f"d{slot} = d{slot} + {gradient}" if slot in self.arrived else f"d{slot} = {gradient}")
        self.arrived.add(slot)

    def arrive_from(self, slot: int, function: str, arguments: str, like: int | None = None) -> None:
        """The result of a function arrives at a slot, in an array of its own (or that of another slot) if possible."""
        if self.is_private(slot, "d"):
            self.lines.append(f"{function}({arguments}, {self.own_array('d', slot, like)})")
            self.arrived.add(slot)
        else:
            self.arrive(slot, f"{function}({arguments})")

    def learn(self, parameter: Parameter, gradient: str) -> None:
        """A gradient arrives at a parameter."""
        grad = self.grad_of[parameter]
        self.lines.append(
            f"add({grad}, {gradient}, {grad})" if parameter in self.learned else f"{grad}[...] = {gradient}"
        )
        self.learned.add(parameter)

    def learn_from(self, parameter: Parameter, function: str, arguments: str) -> None:
        """The result of a function arrives at a parameter, straight into the store if it is the first."""
        if parameter in self.learned:
            self.learn(parameter, f"{function}({arguments})")
        else:
            self.lines.append(f"{function}({arguments}, {self.grad_of[parameter]})")
            self.learned.add(parameter)


class Rule:
    """Any gate: its own forward and backward are called."""

    def covers(self, code: Unrolled, step: Step) -> bool:
        """Whether the rule can write out this step, given the values that the last sweeps left."""
        return True

    def forward(self, code: Unrolled, step: Step) -> None:
        """Write the lines of the forward sweep."""
        for gate in step.gates:
            code.lines.append(f"{code.name('gate', gate)}.training = True")
        own, needs_grad = code.name("gate", step.gate), code.name("needs", step.needs_grad)
        outputs = [f"v{slot}" for slot in step.writes]
        code.lines.append(f"{own}.needs_grad = {needs_grad}")
        code.lines.append(
            f"{', '.join(outputs)} = {code.name('forward', step.gate.bare_forward)}({_list('v', step.reads)})"
        )
        code.lines += [f"if not hasattr({output}, 'shape'): {output} = as_input({output})" for output in outputs]

    def backward(self, code: Unrolled, step: Step) -> None:
        """Write the lines of the backward sweep: the gradients of the inputs and parameters."""
        self.results(code, step, f"{code.name('backward', step.gate.bare_backward)}({upstream(code, step)})")

    def results(self, code: Unrolled, step: Step, call: str) -> None:
        """Write what becomes of the results of a backward: they are checked, as far as that is quick, and handed on."""
        number = next(code.numbers)
        parameters = step.gate.named_parameters()
        # The backward of a container inside writes the gradients of its parameters into the store.
        overwritten = any(isinstance(gate, Container) for gate in step.gates)
        kept = {p: f"kept{number}_{code.grad_of[p]}" for p in parameters.values() if overwritten and p in code.learned}
        code.lines += [f"{copy} = {code.grad_of[parameter]}.copy()" for parameter, copy in kept.items()]
        code.lines.append(f"i{number}, p{number} = {call}")
        code.lines += [f"{code.grad_of[parameter]}[...] = {copy}" for parameter, copy in kept.items()]
        code.lines.append(
            f"if len(i{number}) != {len(step.reads)} or len(p{number}) != {len(parameters)}: raise TypeError"
        )
        present = [gradient is not None for gradient in _input_gradients(code, step)]
        for index, slot in enumerate(step.reads):
            if step.needs_grad[index] and present[index]:
                code.lines.append(f"if i{number}[{index}].shape != v{slot}.shape: raise TypeError")
                code.arrive(slot, f"i{number}[{index}]")
        for name, parameter in parameters.items():
            code.lines.append(f"if p{number}[{name!r}].shape != {code.grad_of[parameter]}.shape: raise TypeError")
            code.learn(parameter, f"p{number}[{name!r}]")


class Shared(Rule):
    """A gate that stands at several places: its step keeps what the gate saves at each of them."""

    def forward(self, code: Unrolled, step: Step) -> None:
        own = code.name("step", step)
        outputs = ", ".join(f"v{slot}" for slot in step.writes)
        target = outputs if len(step.writes) == 1 else f"({outputs})"
        code.lines.append(f"{target}, memory_{step.writes[0]} = {own}.forward(({_list('v', step.reads)},), True)")

    def backward(self, code: Unrolled, step: Step) -> None:
        own = code.name("step", step)
        self.results(code, step, f"{own}.backward(({upstream(code, step)},), memory_{step.writes[0]})")


class LinearRule(Rule):
    """`Linear` on rows of samples."""

    def covers(self, code: Unrolled, step: Step) -> bool:
        gate: Any = step.gate
        x = code.values[step.reads[0]]
        return bool(x.ndim == 2 and x.dtype == gate.weight.value.dtype)

    def forward(self, code: Unrolled, step: Step) -> None:
        gate: Any = step.gate
        (x,), (y,) = step.reads, step.writes
        weight = code.name("weight", gate.weight.value.T)
        if code.is_private(y, "v"):
            code.lines.append(f"matmul(v{x}, {weight}, {code.own_array('v', y)})")
        else:
            code.lines.append(f"v{y} = matmul(v{x}, {weight})")
        if gate.bias is not None:
            code.lines.append(f"add(v{y}, {code.name('bias', gate.bias.value)}, v{y})")

    def backward(self, code: Unrolled, step: Step) -> None:
        gate: Any = step.gate
        (x,), (y,) = step.reads, step.writes
        code.learn_from(gate.weight, "matmul", f"d{y}.T, v{x}")
        if gate.bias is not None:
            code.learn_from(gate.bias, "reduce_sum", f"d{y}, 0, None")
        if step.needs_grad[0]:
            code.arrive_from(x, "matmul", f"d{y}, {code.name('weight', gate.weight.value)}")


class ReLURule(Rule):
    """`ReLU`, in place where its input is seen by nothing else."""

    def covers(self, code: Unrolled, step: Step) -> bool:
        x = code.values[step.reads[0]]
        return isinstance(x, np.ndarray) and x.ndim > 0

    def forward(self, code: Unrolled, step: Step) -> None:
        (x,), (y,) = step.reads, step.writes
        zero = code.name("zero", code.values[y].dtype.type(0))
        if code.is_private(y, "v"):
            like = x if code.is_private(x, "v") else None
            code.lines.append(f"maximum(v{x}, {zero}, out={code.own_array('v', y, like)})")
        else:
            code.lines.append(f"v{y} = maximum(v{x}, {zero})")

    def backward(self, code: Unrolled, step: Step) -> None:
        (x,), (y,) = step.reads, step.writes
        if not step.needs_grad[0]:
            return
        zero = code.name("zero", code.values[y].dtype.type(0))
        mask = code.name("mask", np.empty(code.values[y].shape, bool))
        code.lines.append(f"greater(v{y}, {zero}, {mask})")  # max(x, 0) > 0 where x > 0
        code.arrive_from(x, "multiply", f"d{y}, {mask}", like=y if code.is_private(y, "d") else None)


class SoftmaxCERule(Rule):
    """`SoftmaxCE` against labels, without weights."""

    def covers(self, code: Unrolled, step: Step) -> bool:
        gate: Any = step.gate
        targets = code.values[step.reads[1]]
        return len(step.reads) == 2 and targets.ndim == 1 and gate.class_weight is None

    def forward(self, code: Unrolled, step: Step) -> None:
        gate: Any = step.gate
        (s, t), (y,) = step.reads, step.writes
        scores = code.values[s]
        exps, sums = np.empty_like(scores), np.empty((len(scores), 1), scores.dtype)
        code.names |= {
            f"exps{y}": exps,
            f"shifted{y}": np.empty_like(scores),
            f"sums{y}": sums,
            f"column{y}": sums[:, 0],
        }
        code.names |= {f"rows{y}": np.arange(len(scores)), f"share{y}": scores.dtype.type(1 / len(scores))}
        code.lines += [
            f"{code.name('labels', gate.labels)}(v{s}, v{t})",
            f"reduce_max(v{s}, 1, None, sums{y}, True)",
            f"subtract(v{s}, sums{y}, shifted{y})",
            f"exp(shifted{y}, exps{y})",
            f"reduce_sum(exps{y}, 1, None, sums{y}, True)",
            f"losses{y} = log(column{y})",
            f"losses{y} -= shifted{y}[rows{y}, v{t}]",
            f"losses{y} *= share{y}",
            f"v{y} = reduce_sum(losses{y})",
        ]

    def backward(self, code: Unrolled, step: Step) -> None:
        (s, t), (y,) = step.reads, step.writes
        if not step.needs_grad[0]:
            return
        is_private = code.is_private(s, "d")
        code.lines += [
            f"share_{y} = d{y} * share{y}",
            f"divide(share_{y}, sums{y}, sums{y})",
            f"multiply(exps{y}, sums{y}, {code.own_array('d', s)})" if is_private else f"grad_{y} = exps{y} * sums{y}",
            f"{f'd{s}' if is_private else f'grad_{y}'}[rows{y}, v{t}] -= share_{y}",
        ]
        if is_private:
            code.arrived.add(s)
        else:
            code.arrive(s, f"grad_{y}")


RULES: dict[type[Gate], Rule] = {Linear: LinearRule(), ReLU: ReLURule(), SoftmaxCE: SoftmaxCERule()}


def upstream(code: Unrolled, step: Step) -> str:
    """The gradient of each output, zeros for one that nothing used."""
    names = []
    for slot in step.writes:
        zeros = slot not in code.arrived
        names.append(code.name("zeros", np.zeros_like(code.values[slot])) if zeros else f"d{slot}")
    return ", ".join(names)


def _list(kind: str, slots: tuple[int, ...]) -> str:
    return ", ".join(f"{kind}{slot}" for slot in slots)


def _input_gradients(code: Unrolled, step: Step) -> tuple[Array | None, ...]:
    """What the gate's backward returned for its inputs in the last sweep: `None` where it has no gradient."""
    container = code.container
    grads = step.upstream(container.values, container.grads)
    assert grads is not None
    return step.backward(grads, container.memories[step.writes[0]])[0]
