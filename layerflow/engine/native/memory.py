"""Where the values of a program lie: which buffers there are, and what may be computed in whose place."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerflow.engine.native.kernels import Buffer
from layerflow.engine.native.placement import Placement, root
from layerflow.engine.program import VIEWS, Node, Program


@dataclass(frozen=True)
class Layout:
    """How a program is run many times in one call.

    Attributes:
        rows: the inputs that are batches: their data are given whole, and `rows` says which samples are in which batch.
        series: inputs and outputs of which there is one for each run.
        states: outputs that are inputs of the next run, in the memory of these: {output: input}.
    """

    rows: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    states: dict[str, str] = field(default_factory=dict)


class Memory:
    """The buffers of a program.

    Attributes:
        buffers: all memory; inputs are "given" by their names, outputs as "output:NAME".
        homes: the buffer of a node, and where in it the node starts.
        readonly: buffers that no node is computed in.
        pinned: the numbers of nodes whose memory no other node may take over.
        series: of a buffer with one part for each run, how many elements a part has.
    """

    def __init__(self, program: Program, layout: Layout) -> None:
        self.program, self.layout = program, layout
        self.buffers: list[Buffer] = []
        self.homes: dict[int, tuple[int, int]] = {}
        self.placement = Placement(program)
        self.position = {node.number: i for i, node in enumerate(program.nodes)}
        self.readonly: set[int] = set()
        self.series: dict[int, int] = {}
        self.pinned = {root(node).number for node in program.outputs.values()}

    def settle(self, node: Node, buffer: Buffer, is_readonly: bool = False) -> None:
        self.homes[node.number] = buffer.number, 0
        if is_readonly:
            self.readonly.add(buffer.number)

    def settled_outputs(self) -> list[tuple[Node, int]]:
        """Give outputs memory of their own, where they are computed if possible."""
        finals = []
        guarded = max([self.position[root(guard.node).number] for guard in self.program.guards], default=-1)
        for name, node in self.program.outputs.items():
            if (state := self.program.inputs.get(self.layout.states.get(name, ""))) is not None:
                finals.append((node, self.homes[state.number][0]))
                if self.may_replace(node, state, guarded):
                    self.homes[node.number] = self.homes[state.number]
                continue
            buffer = self.buffer(node.dtype, 0 if name in self.layout.series else node.size, "given", f"output:{name}")
            finals.append((node, buffer.number))
            if name in self.layout.series:
                self.series[buffer.number] = node.size
            elif node.kind not in (*VIEWS, "input", "constant") and node.number not in self.homes:
                self.homes[node.number] = buffer.number, 0
            else:
                inner = node
                while inner.kind == "reshape":
                    inner = inner.inputs[0]
                if inner.kind not in (*VIEWS, "input", "constant") and inner.number not in self.homes:
                    self.homes[inner.number] = buffer.number, 0
                    if inner is not node:
                        self.homes[node.number] = buffer.number, 0
        return finals

    def may_replace(self, node: Node, state: Node, guarded: int) -> bool:
        """Whether a new state can be computed in the place of the former one: after all guards, and read by none."""
        is_other_output = any(
            root(other) is state for name, other in self.program.outputs.items() if self.layout.states.get(name) is None
        )
        return (
            node.kind == "elementwise"
            and node.number not in self.homes
            and not is_other_output
            and self.position[node.number] > guarded
            and self.last_read(state) <= self.position[node.number]
            and self.reads_in_place(node, state)
        )

    def reads_in_place(self, node: Node, state: Node) -> bool:
        """Whether computing an element of a node reads no other element of a state."""
        for each in node.inputs:
            if each is state:
                if each.shape != node.shape:
                    return False
            elif each.kind == "elementwise" and each.number not in self.placement.in_memory:
                if not self.reads_in_place(each, state) or (each.shape != node.shape and self.reads(each, state)):
                    return False
            elif self.reads(each, state):
                return False
        return True

    def settle_pieces(self) -> None:
        """Let the parts of a concatenation along the first axis be computed at their places."""
        for node in self.program.nodes:
            if node.kind != "concatenate" or node.settings["axis"] or node.number in self.homes:
                continue
            buffer, start = self.buffer(node.dtype, node.size, "temporary").number, 0
            self.homes[node.number] = buffer, 0
            for part in node.inputs:
                inner = part
                while inner.kind == "reshape":
                    inner = inner.inputs[0]
                is_free = inner.number not in self.homes and inner.number in self.placement.in_memory
                if is_free and inner.kind in ("elementwise", "reduce", "dot"):
                    self.homes[inner.number] = buffer, start
                    self.pinned |= {inner.number, node.number}
                start += part.size

    def buffer(self, dtype: Any, size: int, kind: str, name: str = "", value: Any = None) -> Buffer:
        made = Buffer(len(self.buffers), np.dtype(dtype), int(size), kind, name, value)
        self.buffers.append(made)
        return made

    def home(self, node: Node) -> tuple[int, int]:
        """Where a node is computed: at its place, or in new memory."""
        if node.number not in self.homes:
            self.homes[node.number] = self.buffer(node.dtype, node.size, "temporary").number, 0
        return self.homes[node.number]

    def last_read(self, node: Node) -> int:
        """The position of the last node that reads the memory of a node."""
        last, waiting, seen = -1, list(self.placement.uses.get(node.number, ())), set()
        while waiting:
            user = waiting.pop()
            if user.number in seen:
                continue
            seen.add(user.number)
            last = max(last, self.position[user.number])
            if user.number not in self.placement.in_memory:
                waiting += self.placement.uses.get(user.number, ())
        return last

    def reads(self, node: Node, memory: Node) -> bool:
        """Whether computing a node reads the memory of another one."""
        if node.number in self.homes:
            return self.homes[node.number] == self.homes.get(memory.number)
        return any(self.reads(each, memory) for each in node.inputs)
