"""Which values of a program get memory; all others are computed where they are used."""

from typing import Any

import numpy as np

from layerflow.engine.native.simplify import only_splits
from layerflow.engine.program import VIEWS, Node, Program

SLOW = {
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cbrt", "cos", "cosh", "divide", "exp",
    "exp2", "expm1", "float_power", "floor_divide", "fmod", "hypot", "log", "log10", "log1p", "log2", "logaddexp",
    "logaddexp2", "power", "reciprocal", "remainder", "sin", "sinh", "sqrt", "tan", "tanh", "true_divide",
}  # fmt: skip
MOST_OPERATIONS = 60  # of an expression that is computed in one loop


def root(node: Node) -> Node:
    """The node whose numbers a view shows."""
    while node.kind in VIEWS:
        node = node.inputs[0]
    return node


class Placement:
    """Decides where memory is needed.

    Attributes:
        in_memory: the numbers of the nodes that get memory.
        uses: for each node, those that read it.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.uses: dict[int, list[Node]] = {}
        for node in program.nodes:
            for each in node.inputs:
                self.uses.setdefault(each.number, []).append(node)
        self.in_memory: set[int] = set()
        self.operations: dict[int, int] = {}
        self.is_slow: dict[int, bool] = {}
        needed = self._needed()
        for node in program.nodes:
            if node.kind not in VIEWS and self._gets_memory(node, needed):
                self.in_memory.add(node.number)

    def _needed(self) -> set[int]:
        """What outputs, products, gathers and reshapes read must be in memory."""
        nodes = [*self.program.outputs.values()]
        needed = {root(node).number for node in nodes}
        for node in self.program.nodes:
            if node.kind == "dot":
                needed |= {root(each).number for each in node.inputs}
            if node.kind == "gather":
                needed.add(root(node.inputs[0]).number)
            if node.kind == "reshape" and not only_splits(node.inputs[0].shape, node.shape):
                needed.add(node.inputs[0].number)
        return needed

    def _gets_memory(self, node: Node, needed: set[int]) -> bool:
        number = node.number
        if node.kind == "constant":
            value = node.settings["value"]
            return number in needed or not value.size or not bool((value == value.flat[0]).all())
        if node.kind not in ("elementwise", "gather") or number in needed:
            self.operations[number] = 0
            return True
        inlined = [each for each in map(root, node.inputs) if each.number not in self.in_memory]
        operations = 1 + sum(self.operations.get(each.number, 0) for each in inlined)
        is_slow = node.settings.get("function") in SLOW or any(self.is_slow.get(each.number) for each in inlined)
        users, size = self.users(node), max(node.size, 1)
        grows = size > 1 and any(_work(user) > size for user in users)
        is_number_for_many = size == 1 and is_slow and any(_work(user) > 1 for user in users)
        if (
            (len(users) > 1 and size > 1 and (is_slow or operations > 2 or len(users) > 3))
            or (grows and (is_slow or operations > 3))
            or operations > MOST_OPERATIONS
            or is_number_for_many
        ):
            self.operations[number] = 0
            return True
        self.operations[number], self.is_slow[number] = operations, is_slow
        return False

    def users(self, node: Node) -> list[Node]:
        """The nodes that read a value, through views too."""
        found = []
        for user in self.uses.get(node.number, ()):
            found += self.users(user) if user.kind in VIEWS else [user]
        return found


def _work(node: Node) -> int:
    """How many elements are computed for a node."""
    shape: Any = node.inputs[0].shape if node.kind in ("reduce", "arg", "cumulate") else node.shape
    return int(np.prod(shape, dtype=np.int64))
