"""The engines by name."""

from collections.abc import Callable
from importlib.util import find_spec

from layerflow.containers.container import Container
from layerflow.engine.numpy import NumpyEngine, Update
from layerflow.errors import RecordError
from layerflow.parameter import Array
from layerflow.store import ParameterStore

ENGINES = ("numpy", "native", "xla", "auto")
WORTH_COMPILING = 5.0  # seconds that a training is expected to take with NumPy, from which on `auto` compiles


def engine_for(
    name: str,
    container: Container,
    store: ParameterStore,
    wanted: tuple[int, ...],
    update: Update | None,
    steps: int,
    batch: Callable[[], tuple[Array, ...]],
) -> NumpyEngine:
    """Return the engine of a name in `ENGINES`.

    "auto" is native where llvmlite is installed, the model can be recorded, and the training is expected to take longer
    than the compilation, by its number of steps, gates, parameters and samples.

    Args:
        name: the name.
        container: as for `NumpyEngine`.
        store: likewise.
        wanted: likewise.
        update: likewise.
        steps: how many there will be.
        batch: returns the first batch.

    Raises:
        ConfigError: the engine needs a package that is not installed.
        RecordError: the model cannot be recorded, which "native" and "xla" need.
    """
    if name == "numpy" or (name == "auto" and find_spec("llvmlite") is None):
        return NumpyEngine(container, store, wanted)
    inputs = batch()
    if name == "xla":
        from layerflow.engine.xla import XlaEngine

        on_xla = XlaEngine(container, store, wanted, update)
        on_xla.prepare(*inputs)
        return on_xla
    from layerflow.engine.native.stepping import NativeEngine

    if name == "native":
        engine = NativeEngine(container, store, wanted, update)
        engine.prepare(*inputs)
        return engine
    # A call of a gate takes about 10 us, and a core does about 10^10 multiplications per second; forward, and backward
    # for inputs and weights, are three passes.
    seconds = 20e-6 * len(container.steps) + 3 * store.size * len(inputs[0]) / 1e10
    if steps * seconds < WORTH_COMPILING:
        return NumpyEngine(container, store, wanted)
    engine = NativeEngine(container, store, wanted, update)
    try:
        engine.prepare(*inputs)
    except RecordError:
        return NumpyEngine(container, store, wanted)
    return engine
