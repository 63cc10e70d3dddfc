"""What an exercise is: a hand-out with a blank, and the cases that a solution is graded on."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerflow.errors import ConfigError, did_you_mean
from layerflow.gate import Gate
from layerflow.parameter import Array

Generator = np.random.Generator
SEEDS = 3  # cases of an exercise, each with other numbers and, where it makes sense, other shapes


@dataclass(frozen=True)
class Case:
    """What a solution is tried on.

    Attributes:
        arguments: of the class or function: plain values and arrays by name.
        inputs: arrays, in order.
        steps: arrays that come one after the other, such as the gradients of an optimizer's steps.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Array, ...] = ()
    steps: tuple[Array, ...] = ()


@dataclass(frozen=True)
class Exercise:
    """A task for students.

    Attributes:
        name: as on the command line.
        title: one line.
        kind: what is written: a "gate", an "optimizer", or a function for one of the `PROBES`.
        target: the class or function that the file defines.
        text: the file, with `...` in the blank.
        blank: which methods are left out: "forward", "backward" or "both"; all of it for other kinds.
        hints: from a nudge to the whole idea.
        cases: make a case from a generator.
        reference: makes the gate, optimizer or function that knows the right results, from the arguments.
        no_loops: whether Python loops are refused.
    """

    name: str
    title: str
    target: str
    text: str
    hints: tuple[str, ...]
    cases: Callable[[Generator], Case]
    reference: Callable[..., Any]
    kind: str = "gate"
    blank: str = "backward"
    no_loops: bool = False

    def handout(self) -> str:
        """The file that students get."""
        width = 96
        what = {"forward": "`forward`", "backward": "`backward`", "both": "`forward` and `backward`"}[self.blank]
        what = what if self.kind == "gate" else f"`{self.target}`"
        lines = [f"{self.title}", "", f"Write {what}, where it says `...`."]
        if self.no_loops:
            lines[-1] += " No Python loops: work on whole arrays."
        lines += ["", f"    layerflow grade {self.name}.py --exercise {self.name}"]
        lines += [f"    layerflow exercise {self.name} --hint 1        (up to {len(self.hints)})"]
        head = "\n".join(textwrap.fill(line, width) if not line.startswith("    ") else line for line in lines)
        return f'"""{head}\n"""\n\n{self.text.strip()}\n'


def exercises() -> dict[str, Exercise]:
    """All exercises by name, the easy ones first."""
    from layerflow.course import activations, arithmetic_tasks, losses, machinery, networks

    modules = (arithmetic_tasks, activations, losses, networks, machinery)
    return {exercise.name: exercise for module in modules for exercise in module.EXERCISES}


def find_exercise(name: str) -> Exercise:
    """The exercise of a name; `ConfigError` with the closest one if there is none."""
    known = exercises()
    if name not in known:
        hint = did_you_mean(name, known) or "; `layerflow exercise` lists them"
        raise ConfigError(f"no exercise {name!r}{hint}")
    return known[name]


# What the tables of exercises are made of ----------------------------------------------------------------------------


def built_in(make: Callable[..., Gate], *arrays: str) -> Callable[..., Gate]:
    """The reference that a gate of the catalogue is: some arguments are values of its parameters."""

    def reference(**arguments: Any) -> Gate:
        plain = {name: value for name, value in arguments.items() if name not in arrays}
        gate = make(**plain)
        cells: Mapping[str, Any] = {**gate.named_parameters(), **gate.named_buffers()}
        for name in arrays:
            cells[name].value = arguments[name]
        return gate

    return reference


def normal(rng: Generator, *shape: int, scale: float = 1.0) -> Array:
    return np.asarray(scale * rng.normal(size=shape))


def sizes(rng: Generator, count: int, low: int = 2, high: int = 6) -> list[int]:
    return [int(n) for n in rng.integers(low, high, count)]


def one_input(rng: Generator) -> Case:
    return Case(inputs=(normal(rng, *sizes(rng, 2), scale=2.0),))


HEAD = "import numpy as np\n\nimport layerflow as lf\n\n\n"


def gate_text(
    name: str, formula: str, init: str = "", forward: str = "...", backward: str = "...", x: str = "x"
) -> str:
    """The text of a gate: the formula in its docstring, and its methods, `...` where one is left out."""
    parts = [f'class {name}(lf.Gate):\n    """{formula}"""\n']
    if init:
        parts.append(textwrap.indent(init.strip(), "    ") + "\n")
    body = textwrap.indent(forward.strip("\n"), "        ")
    parts.append(f"    def forward(self, {x}):\n{body}\n")
    body = textwrap.indent(backward.strip("\n"), "        ")
    parts.append(f"    def backward(self, grad):\n{body}\n")
    return HEAD + "\n".join(parts)
