"""Running a person's own Python file or module because the command line asked for it."""

import importlib
import importlib.util
import sys
import traceback
import zlib
from pathlib import Path
from types import ModuleType

from layerflow.errors import ConfigError


def import_code(name: str) -> ModuleType:
    """Import `my_layers.py` (a file, from the current folder) or `my.layers` (a module); a file runs once per process.

    Raises:
        ConfigError: it does not exist, or running it failed; the message shows the line of the person's own code.
    """
    is_file = name.endswith(".py") or "/" in name
    try:
        return _import_file(Path(name).resolve()) if is_file else importlib.import_module(name)
    except FileNotFoundError as error:
        if is_file and error.filename == str(Path(name).resolve()):
            raise ConfigError(f"--import {name}: no such file") from None
        raise ConfigError(f"--import {name}: {_explain(error, name, is_file)}") from None
    except ConfigError as error:
        raise ConfigError(f"--import {name}: {error}") from None
    except ModuleNotFoundError as error:
        if not is_file and error.name == name.split(".")[0]:
            hint = f": did you mean --import {name}.py?" if Path(f"{name}.py").exists() else ""
            raise ConfigError(f"--import {name}: no module is called so{hint}") from None
        raise ConfigError(f"--import {name}: {_explain(error, name, is_file)}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"--import {name}: {_explain(error, name, is_file)}") from None


def reason(error: BaseException) -> str:
    """Return the kind of an exception and its message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _import_file(file: Path) -> ModuleType:
    # The checksum keeps apart two files that are called the same.
    module_name = f"imported_{file.stem}_{zlib.crc32(str(file).encode()):08x}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module


def _explain(error: BaseException, name: str, is_file: bool) -> str:
    """Return the error with the last line of the person's own code that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}\n    {(error.text or '').strip()}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    theirs = [frame for frame in frames if Path(frame.filename).resolve() == Path(name).resolve()] if is_file else []
    for frame in reversed(theirs or frames):
        if frame.filename != __file__:
            return f"{frame.filename}:{frame.lineno}: {reason(error)}\n    {frame.line}"
    return reason(error)
