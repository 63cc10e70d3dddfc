"""From LLVM's language to machine code, kept on disk; and what the machine offers: vectors, BLAS, C's library."""

import ctypes
import ctypes.util
import hashlib
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import ConfigError

MAGIC = b"layerflow object 1\n"
GEMM_NAMES = (("scipy_cblas_{}gemm64_", 64), ("cblas_{}gemm64_", 64), ("scipy_cblas_{}gemm", 32), ("cblas_{}gemm", 32))


@dataclass(frozen=True)
class Blas:
    """The matrix products of a BLAS library."""

    path: str
    single: int
    double: int
    integer_bits: int


@dataclass(frozen=True)
class Machine:
    """What the code is compiled for.

    Attributes:
        lanes: float32 numbers in a vector.
        blas: that of NumPy, if it is found.
    """

    cpu: str
    features: str
    lanes: int
    blas: Blas | None

    def __str__(self) -> str:
        products = f"BLAS from {os.path.basename(self.blas.path)}" if self.blas else "own matrix products"
        return f"LLVM for {self.cpu}, {self.lanes} floats in a vector, {products}"


def llvm() -> Any:
    """The module llvmlite.binding.

    Raises:
        ConfigError: llvmlite is not installed.
    """
    try:
        import llvmlite.binding as binding
    except ImportError:
        raise ConfigError(
            "engine native needs llvmlite, which is not installed: pip install 'layerflow[native]'"
        ) from None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@cache
def machine() -> Machine:
    """The machine that this runs on."""
    binding = llvm()
    features = binding.get_host_cpu_features()
    has = {name for name, is_there in features.items() if is_there}
    lanes = 8 if {"avx2", "fma"} <= has else 4
    return Machine(binding.get_host_cpu_name(), features.flatten(), lanes, _blas())


def _blas() -> Blas | None:
    from threadpoolctl import threadpool_info

    for info in threadpool_info():
        if info["user_api"] != "blas":
            continue
        library = ctypes.CDLL(info["filepath"])
        for pattern, bits in GEMM_NAMES:
            try:
                addresses = [ctypes.cast(getattr(library, pattern.format(kind)), ctypes.c_void_p) for kind in "sd"]
            except AttributeError:
                continue
            return Blas(info["filepath"], addresses[0].value or 0, addresses[1].value or 0, bits)
    return None


class Code:
    """Machine code in memory.

    Attributes:
        is_cached: whether it came from the disk.
        trouble: why it could not be kept on the disk, if so.
    """

    def __init__(self, text: str) -> None:
        binding, here = llvm(), machine()
        target = binding.Target.from_default_triple().create_target_machine(
            cpu=here.cpu, features=here.features, opt=3, jit=True, codemodel="jitdefault"
        )
        key = "\n".join([text, here.cpu, here.features, str(binding.llvm_version_info), platform.machine()])
        path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.o"
        found, self.trouble = _read(path), ""
        self.is_cached = found is not None
        if found is None:
            found = _compiled(binding, target, text)
            self.trouble = _kept(path, found)
        module = binding.parse_assembly("")
        module.triple, module.data_layout = target.triple, str(target.target_data)
        _add_symbols(binding)
        self._engine = binding.create_mcjit_compiler(module, target)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(found))
        self._engine.finalize_object()
        address = self._engine.get_function_address("run")
        pointers = [ctypes.c_void_p] * 4
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, *pointers, ctypes.c_int64, ctypes.c_void_p)(address)


def _compiled(binding: Any, target: Any, text: str) -> bytes:
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = options.loop_interleaving = True
    builder = binding.create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    code: bytes = target.emit_object(module)
    return code


@cache
def _add_symbols(binding: Any) -> None:
    """Tell LLVM where the functions of C's library are; it finds them by itself on Linux and macOS."""
    if sys.platform != "win32":
        return
    library = ctypes.CDLL("ucrtbase")
    for name in ("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "exp2", "fmod",
                 "hypot", "log10", "log2", "pow", "sin", "sinh", "tan", "memset", "memcpy", "memmove"):  # fmt: skip
        for each in (name, f"{name}f"):
            if hasattr(library, each):
                binding.add_symbol(each, ctypes.cast(getattr(library, each), ctypes.c_void_p).value)


# The cache ---------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled code is kept: LAYERFLOW_CACHE, else the user's cache folder."""
    if given := os.environ.get("LAYERFLOW_CACHE"):
        return Path(given) / "native"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local")))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "layerflow" / "native"


def _read(path: Path) -> bytes | None:
    """The code in a file; `None` if there is none, or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = len(MAGIC) + 32
    code = content[head:]
    is_whole = content.startswith(MAGIC) and content[len(MAGIC) : head] == hashlib.sha256(code).digest()
    return code if is_whole else None


def _kept(path: Path, code: bytes) -> str:
    """Write code to the disk, whole or not at all; return why it could not be."""
    content = MAGIC + hashlib.sha256(code).digest() + code
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None
        return f"compiled code cannot be kept in {path.parent}: {error.strerror or error}"
    return ""


def aligned_bytes(size: int) -> Any:
    """Memory whose start lies at the start of a cache line."""
    raw = np.zeros(size + 128, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size + 64]
