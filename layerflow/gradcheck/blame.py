"""Exceptions out of a gate's own code: the author's line, quoted, and the shapes of a product that does not fit."""

import ast
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from layerflow.errors import GateError


@contextmanager
def blamed(gate: str, method: str) -> Iterator[None]:
    """Turn an exception out of the gate's own code into a `GateError` that quotes the line it came from."""
    try:
        yield
    except GateError:
        raise
    except Exception as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        raise GateError(
            f"{gate}: {method} raised {type(error).__name__}: {_product(error) or error}{notes}{guilty_line(error)}"
        ) from error


def guilty_line(error: BaseException) -> str:
    """The innermost line of the author's code in a traceback, quoted with file and number; empty if there is none."""
    frame = _guilty(error)
    if frame is None:
        return ""
    summary = frame[1]
    return f"\n    {summary.filename}, line {summary.lineno}, in {summary.name}: {summary.line}"


def _guilty(error: BaseException) -> tuple[FrameType, traceback.FrameSummary] | None:
    """The author's innermost frame, or a built-in gate's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    pairs = list(zip(frames, traceback.extract_tb(error.__traceback__), strict=True))
    own = [pair for pair in pairs if not _is_ours(pair[1].filename)]
    own = own or [pair for pair in pairs if "/layerflow/gates/" in pair[1].filename.replace("\\", "/")]
    return own[-1] if own else None


def _is_ours(filename: str) -> bool:
    path = filename.replace("\\", "/")
    return any(part in path for part in ("/layerflow/", "/numpy/", "<frozen", "/contextlib.py"))


def _product(error: Exception) -> str:
    """What to say of a matrix product whose shapes do not fit, in place of NumPy's words; empty for other errors."""
    found = _guilty(error) if isinstance(error, ValueError) and "core dimension" in str(error) else None
    if found is None:
        return ""
    frame, summary = found
    code = (summary.line or "").strip()
    for node in ast.walk(_parsed(code)):
        sides = [node.left, node.right] if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) else []
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("matmul"):
            sides = list(node.args[:2])
        shapes = [_shape(side, frame) for side in sides]
        if len(shapes) == 2 and None not in shapes and not _fit(*shapes):
            return f"the shapes {shapes[0]} and {shapes[1]} of {ast.unparse(node)} do not fit"
    return ""


def _parsed(code: str) -> ast.AST:
    for attempt in (code, f"{code} pass"):  # `if x @ y:` is no statement by itself
        try:
            return ast.parse(attempt)
        except SyntaxError:
            continue
    return ast.Module([], [])


def _shape(node: ast.expr, frame: FrameType) -> Any:
    """The shape of an operand that can be looked up without running the author's code again; None otherwise."""
    if any(isinstance(part, ast.Call | ast.BinOp | ast.Await | ast.NamedExpr) for part in ast.walk(node)):
        return None
    try:
        code = compile(ast.Expression(node), "<operand>", "eval")
        return np.shape(eval(code, frame.f_globals, frame.f_locals))
    except Exception:
        return None


def _fit(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return bool(a and b) and a[-1] == b[-2 if len(b) > 1 else 0]
