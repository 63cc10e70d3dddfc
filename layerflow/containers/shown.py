"""Arrays as nodes show them: to be read and computed with, not to be changed in place."""

from typing import Any, NoReturn

import numpy as np

from layerflow.errors import GateError


class ShownArray(np.ndarray[Any, Any]):
    """A read-only view of a node's value or gradient; whatever is computed from it is a plain array.

    Raises:
        GateError: it is changed in place. What `backward` needs would be changed with it.
    """

    what: str
    node: Any

    def __array_finalize__(self, parent: Any) -> None:
        self.what, self.node = getattr(parent, "what", ""), getattr(parent, "node", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def _refuse(self, *_: Any) -> NoReturn:
        raise GateError(
            f"the {self.what} of node {self.node} cannot be changed in place: backward builds on it; change a copy"
        )

    # Whatever else writes (`fill`, `sort`, `out=`) is refused by NumPy itself, since the view is read-only.
    __setitem__ = __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __ipow__ = __imatmul__ = _refuse

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __reduce__(self) -> Any:
        return np.array(self).__reduce__()


def show(array: Any, what: str, node: Any) -> Any:
    """Return a read-only view of a node's value or gradient; numbers, which cannot be changed, as they are."""
    if not isinstance(array, np.ndarray):
        return array
    if array.ndim == 0:
        return array[()]
    shown = array.view(ShownArray)
    shown.what, shown.node = what, node
    shown.flags.writeable = False
    return shown
