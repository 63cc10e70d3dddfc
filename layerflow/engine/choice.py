"""The engines by name."""

from layerflow.engine.numpy import NumpyEngine

ENGINES = ("numpy", "native")


def engine_named(name: str) -> type[NumpyEngine]:
    """Return the engine of a name in `ENGINES`.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    if name == "numpy":
        return NumpyEngine
    from layerflow.engine.native.compilation import llvm
    from layerflow.engine.native.stepping import NativeEngine

    llvm()
    return NativeEngine
