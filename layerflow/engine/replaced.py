"""`np` while code is recorded: functions that make arrays make stand-ins, so that these can be written into.

Only the thread that records sees a difference.
"""

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from layerflow.engine.traced import Traced, held_by, is_live, recorder, refuse
from layerflow.gate import Gate, find

MAKERS = "zeros", "ones", "empty", "full", "eye", "identity", "arange", "linspace", "tri", "indices"
COLLECTORS = "array", "asarray", "ascontiguousarray", "asanyarray", "asfortranarray"
RANDOM = {"BitGenerator", "Generator", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "SeedSequence"}
IN_PLACE = "fill_diagonal", "place", "put", "putmask"


def _maker(name: str) -> Callable[..., Any]:
    made = getattr(np, name)

    def make(*args: Any, **named: Any) -> Any:
        if recorder() is None:
            return made(*args, **named)
        if name == "full" and is_live(args[1:]):
            value, dtype = args[1], named.get("dtype", args[2] if len(args) > 2 else None)
            return np.broadcast_to(value if dtype is None else value.astype(dtype), args[0]).copy()
        plain = {key: held_by(value) for key, value in named.items()}
        return Traced.constant((np.zeros if name == "empty" else made)(*held_by(args), **plain))

    return make


def _collector(name: str) -> Callable[..., Any]:
    made = getattr(np, name)

    def collect(value: Any, dtype: Any = None, *args: Any, **named: Any) -> Any:
        if recorder() is None:
            return made(value, dtype, *args, **named)
        if isinstance(value, Traced):
            is_copy = named.get("copy", name == "array")
            return value.astype(value.dtype if dtype is None else dtype, copy=bool(is_copy))
        if not is_live(value):
            return Traced.constant(made(held_by(value), dtype))
        items = [collect(item, dtype) if is_live(item) else np.asarray(held_by(item), dtype) for item in value]
        stacked: Any = np.stack(items)
        return stacked if dtype is None else stacked.astype(dtype)

    return collect


def _in_place(name: str) -> Callable[..., Any]:
    def refused(*args: Any, **named: Any) -> Any:
        if recorder() is None:
            return getattr(np, name)(*args, **named)
        raise refuse(f"np.{name}", "assign with x[...] = or np.where")

    return refused


class _IsArray(type):
    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, np.ndarray | Traced)


class _NDArray(metaclass=_IsArray):
    """Stands for `np.ndarray` in `isinstance`."""


class _Random(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if recorder() is None or name in RANDOM or name.startswith("__"):
            return getattr(np.random, name)
        raise refuse(f"np.random.{name}", "a gate keeps its own np.random.Generator in an attribute")


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


OWN: dict[str, Any] = {
    **{name: _maker(name) for name in MAKERS},
    **{name: _collector(name) for name in COLLECTORS},
    **{name: _in_place(name) for name in IN_PLACE},
    "ndarray": _NDArray,
    "random": _Random("numpy.random"),
}
PROXY = _Module("numpy")
vars(PROXY).update(OWN)
INSTEAD = {id(np): PROXY, **{id(getattr(np, name)): own for name, own in OWN.items() if name != "random"}}


@contextmanager
def numpy_replaced(modules: Sequence[Any]) -> Iterator[None]:
    """Put these in the place of NumPy's in modules for a while."""
    changed = [
        (vars(module), name, value)
        for module in modules
        for name, value in list(vars(module).items())
        if id(value) in INSTEAD and value is not PROXY
    ]
    for held, name, value in changed:
        held[name] = INSTEAD[id(value)]
    try:
        yield
    finally:
        for held, name, value in changed:
            held[name] = value


def modules_of(root: Any) -> list[Any]:
    """The modules whose code may run when a gate does: those of its classes, and those they use."""
    waiting = {cls.__module__ for _, gate in find(root, Gate) for cls in type(gate).__mro__}
    return _behind(waiting | {type(root).__module__})


def _behind(waiting: set[str]) -> list[Any]:
    found: dict[str, Any] = {}
    own = {name.partition(".")[0] for name in waiting}
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if module is None or name in found or not _is_users(module, own):
            continue
        found[name] = module
        for value in list(vars(module).values()):
            of = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
            if isinstance(of, str) and of not in found:
                waiting.add(of)
    return list(found.values())


def _is_users(module: Any, own: set[str]) -> bool:
    top: str = module.__name__.partition(".")[0]
    if top == "numpy" or top in sys.stdlib_module_names or module.__name__.startswith("layerflow.engine"):
        return str(module.__name__) == "__main__"
    return top == "layerflow" or top in own or "site-packages" not in str(getattr(module, "__file__", ""))
