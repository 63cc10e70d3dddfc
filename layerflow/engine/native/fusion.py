"""Fewer and longer loops: those that run through memory without a gap become one, and neighbours are joined.

Then temporary buffers get places in one arena, by lifetime.
"""

from layerflow.engine.native.expressions import ZERO, Expression, Expressions, Index, loop
from layerflow.engine.native.kernels import Buffer, Kernel, Store

MOST_STORES = 8  # in one kernel
LOOK_BACK = 5  # kernels
LINE = 64  # bytes


def fused(kernels: list[Kernel], expressions: Expressions) -> list[Kernel]:
    """Return kernels that compute the same."""
    found: list[Kernel] = []
    for kernel in kernels:
        if kernel.product is None:
            kernel.loops = _collapsed(kernel, kernel.loops, expressions)
            kernel.folds = _collapsed(kernel, kernel.folds, expressions)
            if not kernel.folds and not kernel.function.startswith("arg"):
                kernel.function = ""  # over one element
        for other in reversed(found[-LOOK_BACK:]):
            if (stores := _joined(other, kernel, expressions)) is not None:
                other.stores = other.stores + stores
                break
            if other.guard or kernel.guard or _depend(other, kernel):
                found.append(kernel)
                break
        else:
            found.append(kernel)
    return found


def _depend(first: Kernel, second: Kernel) -> bool:
    """Whether the second must stay behind the first."""
    written = {buffer for buffer, _ in first.writes()}
    touched = written | {buffer for buffer, _ in first.reads()}
    return not written.isdisjoint(buffer for buffer, _ in second.reads()) or not touched.isdisjoint(
        buffer for buffer, _ in second.writes()
    )


def _collapsed(kernel: Kernel, loops: list[tuple[int, int]], expressions: Expressions) -> list[tuple[int, int]]:
    """Join each loop with the one inside it where memory goes on without a gap in everything that is touched."""
    loops = [(variable, size) for variable, size in loops if size != 1]
    i = 0
    while i + 1 < len(loops):
        (outer, count), (inner, size) = loops[i], loops[i + 1]
        indices = [index for store in kernel.stores for index in _indices(store.value, store.index)]
        if kernel.function in ("argmax", "argmin") and kernel.folds and loops[i] in kernel.folds:
            return loops  # the variable itself counts
        if all(_stride(index, outer) == size * _stride(index, inner) for index in indices):
            kernel.stores = [
                Store(
                    store.buffer,
                    expressions.moved_index(store.index, {outer: ZERO}),
                    expressions.moved(store.value, {outer: ZERO}),
                    store.mode,
                )
                for store in kernel.stores
            ]
            loops[i : i + 2] = [(inner, count * size)]
            i = max(i - 1, 0)
        else:
            i += 1
    return loops


def _indices(value: Expression, place: Index) -> list[Index]:
    found = [place]
    for _, pick in place.picks:
        found += _indices(pick, ZERO)
    if value.kind == "load":
        found += [value.index, *[index for _, pick in value.index.picks for index in _indices(pick, ZERO)]]
    for operand in value.operands:
        found += _indices(operand, ZERO)
    return found


def _stride(index: Index, variable: int) -> int:
    return next((stride for each, stride in index.terms if each == variable), 0)


def _joined(first: Kernel, second: Kernel, expressions: Expressions) -> list[Store] | None:
    """The stores of the second kernel for the loops of the first, if each turn of them may do both."""
    if any(each.product or each.function or each.guard for each in (first, second)):
        return None
    sizes = [size for _, size in first.loops]
    if sizes != [size for _, size in second.loops] or not sizes or len(first.stores) >= MOST_STORES:
        return None
    variables = {own: loop(other) for (own, _), (other, _) in zip(second.loops, first.loops, strict=True)}
    moved = [
        Store(
            store.buffer,
            expressions.moved_index(store.index, variables),
            expressions.moved(store.value, variables),
            store.mode,
        )
        for store in second.stores
    ]
    written = dict(first.writes())
    again = Kernel(first.loops, moved)
    own = dict(again.writes())
    if not written.keys().isdisjoint(own):
        return None
    is_right = all(_same_place(index, written[buffer]) for buffer, index in again.reads() if buffer in written)
    is_right = is_right and all(_same_place(index, own[buffer]) for buffer, index in first.reads() if buffer in own)
    return moved if is_right else None


def _same_place(one: Index | None, other: Index | None) -> bool:
    return one is not None and one == other and not one.picks


def plan(kernels: list[Kernel], buffers: list[Buffer]) -> int:
    """Give temporary buffers their places; return the size of the arena in bytes."""
    return placed(temporaries(kernels, buffers))


def temporaries(kernels: list[Kernel], buffers: list[Buffer]) -> list[Buffer]:
    """Note when each buffer is first and last needed; return the temporary ones that are."""
    for time, kernel in enumerate(kernels):
        for number, _ in (*kernel.reads(), *kernel.writes()):
            buffer = buffers[number]
            buffer.first, buffer.last = min(buffer.first, time), max(buffer.last, time)
    return [buffer for buffer in buffers if buffer.kind == "temporary" and buffer.last >= 0]


def placed(buffers: list[Buffer]) -> int:
    """Give buffers their places, so that those that are needed at the same time do not overlap; return the size."""
    living: list[tuple[int, int, int]] = []  # (offset, end, last), in the order of the offsets
    top = 0
    for buffer in sorted(buffers, key=lambda buffer: buffer.first):
        living = [each for each in living if each[2] >= buffer.first]
        size = -(-max(buffer.size, 1) * buffer.dtype.itemsize // LINE) * LINE
        offset = 0
        for start, end, _ in living:
            if offset + size <= start:
                break
            offset = max(offset, end)
        buffer.offset = offset
        living.append((offset, offset + size, buffer.last))
        living.sort()
        top = max(top, offset + size)
    return top
