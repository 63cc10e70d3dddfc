"""Writes the model of a run in a form that needs no layerflow: ONNX, one Python or C file, or its weights."""

import ctypes
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.engine.recorder import detached, record_gate
from layerflow.errors import ConfigError, LayerflowError
from layerflow.gate import Gate, Gradients
from layerflow.interop.c_file import c_file
from layerflow.interop.onnx.exporting import close_to, export_onnx, open_forward, resized
from layerflow.interop.python_file import python_file
from layerflow.parameter import Array
from layerflow.runs.files import write_atomically
from layerflow.runs.model import SavedModel


class Deployed(Gate):
    """What a run does with new samples: fill missing values, scale, run the model, decide.

    Outputs: the scores; for classes also their probabilities, where the loss defines them, and the index of the class.
    """

    def __init__(self, saved: SavedModel, dtype: str) -> None:
        self.model, self.loss, self.dtype = saved.model, saved.loss, dtype
        preparation = saved.preprocessing
        self.fill, scaler = preparation.fill, preparation.scaler
        self.shift: Any = None if scaler is None else scaler.shift
        self.scale: Any = None if scaler is None else scaler.scale
        self.is_tokens, self.is_classes = preparation.vocabulary is not None, saved.classes is not None
        self.has_probabilities = hasattr(saved.loss, "probabilities") and self.is_classes

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs."""
        probabilities = ["probabilities"] if self.has_probabilities else []
        return ["scores", *probabilities, *(["label"] if self.is_classes else [])]

    def forward(self, x: Any) -> Any:
        if not self.is_tokens:
            x = x.astype(np.float64)
            if self.fill is not None:
                x = np.where(np.isnan(x), self.fill, x)
            if self.shift is not None:
                x = (x - self.shift) / self.scale
            x = x.astype(self.dtype)
        scores: Any = self.model.forward(x)
        if not self.is_classes:
            return scores
        found = [scores]
        is_yes = scores.ndim == 1 or scores.shape[-1] == 1
        if self.has_probabilities:
            shares = self.loss.probabilities(scores)  # type: ignore[attr-defined]
            if is_yes:
                yes = shares.reshape(len(scores), 1)
                shares = np.concatenate([1 - yes, yes], axis=1)
            found.append(shares)
        label = (scores.reshape(len(scores)) > 0).astype(np.int64) if is_yes else scores.argmax(axis=-1)
        return (*found, label)

    def backward(self, *grads: Any) -> Gradients:
        raise NotImplementedError("a deployed model is not trained")


def export_run(saved: SavedModel, path: Path) -> str:
    """Write the model of a run to a file, in the form that its ending says; return what was written, in words.

    `.onnx`: an ONNX model with preprocessing and the names of the classes. `.py`: a Python file that needs NumPy alone.
    `.c`: a C file for one sample. `.safetensors`: parameters and buffers. Results are compared with those of the model
    before a file is kept; of C, where there is a compiler.

    Raises:
        ConfigError: an unknown ending, or a package that is not installed. RecordError: a gate cannot be recorded.
        LayerflowError: the results differ. StorageError: the file cannot be written.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; expected {', '.join(FORMATS)}")
    return FORMATS[path.suffix](saved, path)


def _facts(saved: SavedModel) -> dict[str, Any]:
    """What a file says about the run it comes from."""
    features = saved.preprocessing.features
    named = {"features": list(features)} if features else {}
    return {"run": saved.name, **named, **({"classes": list(saved.classes)} if saved.classes else {})}


def _example(saved: SavedModel, dtype: Any) -> Array:
    """Some samples like those of the training."""
    rng, preparation = np.random.default_rng(0), saved.preprocessing
    shape = (5, *preparation.sample_shape)
    if preparation.vocabulary is not None:
        return rng.integers(0, len(preparation.vocabulary), shape)
    x, scaler = rng.normal(size=shape), preparation.scaler
    return np.asarray(x if scaler is None else scaler.shift + scaler.scale * x, dtype)


def _as_onnx(saved: SavedModel, path: Path) -> str:
    whole = Deployed(saved, "float32")
    example = _example(saved, np.float32)
    export_onnx(whole, path, example, names=whole.output_names, metadata=_facts(saved), labels=saved.classes)
    return f"x (batch, {', '.join(map(str, example.shape[1:]))}) {example.dtype} -> {', '.join(whole.output_names)}"


def _as_python(saved: SavedModel, path: Path) -> str:
    whole = Deployed(saved, saved.dtype)
    example = _example(saved, np.float64)
    twin = detached(whole)
    twin.training = False
    program = open_forward(twin, [example])
    arrays = {f"parameter.{name}": cell.value for name, cell in twin.named_parameters().items()}
    arrays |= {f"buffer.{name}": cell.value for name, cell in twin.named_buffers().items()}
    facts = {key: value for key, value in _facts(saved).items() if key != "run"}
    text = python_file(program, arrays, path.name, saved.name, whole.output_names, facts)
    names: dict[str, Any] = {"__name__": "checked"}
    exec(compile(text, str(path), "exec"), names)
    for size in (len(example), 1, 3):
        x = resized(example, size)
        expected = twin.forward(x)
        found = names["forward"](x)
        for one, other in zip(expected if isinstance(expected, tuple) else (expected,), found, strict=True):
            if not close_to(one, other, 1e-6):
                raise LayerflowError(f"{path}: the file would give other numbers than the model; please report it")
    write_atomically(path, text.encode())
    return f"{len(text.splitlines()):,} lines, needs NumPy alone"


def _as_c(saved: SavedModel, path: Path) -> str:
    whole = Deployed(saved, "float32")
    example = _example(saved, np.float32)
    twin = detached(whole)
    twin.astype(np.float32)
    twin.training = False
    program = record_gate(twin, [example[:1]], None)
    cells = {f"parameter.{name}": cell.value for name, cell in twin.named_parameters().items()}
    cells |= {f"buffer.{name}": cell.value for name, cell in twin.named_buffers().items()}
    text = c_file(program, cells, saved.name, whole.output_names, example.shape[1:])
    if saved.classes:
        named = ", ".join(json.dumps(name, ensure_ascii=False) for name in saved.classes)
        text += f"\nconst char *const classes[] = {{{named}}};\n"
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is not None:
        run = compiled(text, compiler)
        for x in example:
            output = twin.forward(x[None])
            expected = output if isinstance(output, tuple) else (output,)
            for one, other in zip(expected, run(x, expected), strict=True):
                if not close_to(one, other, 1e-5):
                    raise LayerflowError(f"{path}: the file would give other numbers than the model; please report it")
    write_atomically(path, text.encode())
    checked = (
        "compared with the model" if compiler else "not compared with the model, since there is no C compiler here"
    )
    return f"{len(text.splitlines()):,} lines, {checked}"


def compiled(text: str, compiler: str) -> Callable[[Array, Sequence[Array]], list[Array]]:
    """The function of a C file, as a function of a sample and of arrays like its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "model.c", Path(folder) / "model.so"
        source.write_text(text, encoding="utf-8")
        words = [compiler, "-std=c99", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LayerflowError(f"{compiler} refuses the C file: {done.stderr[:500]}; please report it")
        predict = ctypes.CDLL(str(library)).predict

    def run(x: Array, like: Sequence[Array]) -> list[Array]:
        found = [np.zeros(array.shape, array.dtype) for array in like]
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (np.ascontiguousarray(x), *found)]
        predict(*pointers)
        return found

    return run


def _as_safetensors(saved: SavedModel, path: Path) -> str:
    try:
        from safetensors.numpy import save
    except ImportError:
        raise ConfigError(f"{path}: needs safetensors: pip install 'layerflow[safetensors]'") from None
    arrays = {**saved.model.named_parameters(), **saved.model.named_buffers()}
    content = save({name: np.ascontiguousarray(cell.value) for name, cell in arrays.items()}, {"format": "np"})
    write_atomically(path, content)
    return f"{len(arrays)} arrays"


FORMATS: dict[str, Callable[[SavedModel, Path], str]] = {
    ".onnx": _as_onnx, ".py": _as_python, ".c": _as_c, ".safetensors": _as_safetensors,
}  # fmt: skip
