"""A program made simpler before it is lowered: no work that changes nothing, no view that needs a division."""

from typing import Any

import numpy as np

from layerflow.engine.interpreter import computed
from layerflow.engine.program import VIEWS, Guard, Node, Program

LARGEST_FOLDED = 1 << 20  # elements of a constant that is computed here


def reshape_groups(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Group the axes of a reshape: those before and those after that hold the same elements."""
    groups, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        left, right, a, b = [], [], 1, 1
        if i < len(before):
            a *= before[i]
            left.append(i)
            i += 1
        if j < len(after):
            b *= after[j]
            right.append(j)
            j += 1
        while a != b:
            if a < b:
                a *= before[i]
                left.append(i)
                i += 1
            else:
                b *= after[j]
                right.append(j)
                j += 1
        groups.append((left, right))
    return groups


def only_splits(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape merges no axes, so that its indices need no division."""
    return 0 not in before and all(sum(before[i] != 1 for i in left) <= 1 for left, _ in reshape_groups(before, after))


def simplified(program: Program) -> Program:
    """Return an equal program with fewer nodes."""
    made: list[Node] = []
    new: dict[int, Node] = {}
    constants: dict[Any, Node] = {}

    def make(like: Node, kind: str, inputs: tuple[Node, ...], settings: dict[str, Any], shape: Any) -> Node:
        node = Node(len(made), kind, inputs, settings, tuple(shape), like.dtype, like.origin)
        made.append(node)
        return node

    def constant(like: Node, value: Any) -> Node:
        array = np.ascontiguousarray(np.asarray(value, like.dtype)).reshape(np.shape(value))
        key = array.dtype, array.shape, array.tobytes()
        if key not in constants:
            constants[key] = make(like, "constant", (), {"value": array}, array.shape)
        return constants[key]

    for node in program.live():
        inputs = tuple([new[each.number] for each in node.inputs])
        if node.kind == "constant":
            new[node.number] = constant(node, node.settings["value"])
        elif inputs and node.size <= LARGEST_FOLDED and all(each.kind == "constant" for each in inputs):
            with np.errstate(all="ignore"):
                new[node.number] = constant(node, computed(node, [each.settings["value"] for each in inputs]))
        elif (same := _unchanged(node, inputs)) is not None:
            new[node.number] = same
        elif node.kind == "reshape":
            base = inputs[0]
            while base.kind == "reshape":
                base = base.inputs[0]
            if base.kind in VIEWS and not only_splits(base.shape, node.shape):
                base = make(base, "elementwise", (base,), {"function": "copy"}, base.shape)
            same = base if base.shape == node.shape else make(node, "reshape", (base,), {}, node.shape)
            new[node.number] = same
        else:
            new[node.number] = make(node, node.kind, inputs, node.settings, node.shape)
    simpler = Program(
        nodes=made,
        inputs={name: new[node.number] for name, node in program.inputs.items() if node.number in new},
        outputs={name: new[node.number] for name, node in program.outputs.items()},
        guards=[Guard(new[each.node.number], each.expected, each.origin, each.is_implied) for each in program.guards],
        draws=program.draws,
    )
    simpler.nodes = _with_sums_of_products(simpler)
    return simpler


def _unchanged(node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """The input that a node hands on as it is."""
    if node.kind == "update" and inputs[0].shape == inputs[1].shape and {*node.settings["steps"]} <= {1}:
        return inputs[1]
    if node.kind in ("reshape", "broadcast") and inputs[0].shape == node.shape:
        return inputs[0]
    if node.kind != "elementwise" or len(inputs) != 2:
        return None
    for one, other in ((0, 1), (1, 0)):
        kept, number = inputs[one], _uniform(inputs[other])
        if number is None or kept.shape != node.shape or kept.dtype != node.dtype or node.dtype.kind == "b":
            continue
        function, is_second = node.settings["function"], other == 1
        if number == 1 and (function == "multiply" or (function in ("divide", "true_divide") and is_second)):
            return kept
        if number == 0 and (function == "add" or (function == "subtract" and is_second)):
            return kept
    return None


def _uniform(node: Node) -> Any:
    """The number that a constant consists of."""
    if node.kind != "constant" or not node.size:
        return None
    value = node.settings["value"]
    return value.flat[0] if (value == value.flat[0]).all() else None


def _with_sums_of_products(program: Program) -> list[Node]:
    """Turn c + a b into one product that adds, where c is a product itself that nothing else needs."""
    live = program.live()
    uses: dict[int, int] = {}
    for used in [*[each for node in live for each in node.inputs], *program.outputs.values()]:
        uses[used.number] = uses.get(used.number, 0) + 1
    gone = set()
    for node in live:
        if node.kind != "elementwise" or node.settings["function"] != "add":
            continue
        a, b = node.inputs
        if (
            a.kind == b.kind == "dot" and a is not b and uses[a.number] == uses[b.number] == 1
            and a.shape == b.shape == node.shape and len(b.inputs) == 2 and node.dtype.kind == "f"
        ):  # fmt: skip
            node.kind, node.inputs, node.settings = "dot", (*b.inputs, a), {}
            gone.add(b.number)
    return [node for node in live if node.number not in gone]
