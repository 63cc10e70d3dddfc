"""Grades a student's file: runs it in a process of its own, and compares what it computes with what is right."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.course.exercises import SEEDS, Case, Exercise
from layerflow.course.probes import PROBES, Results, made
from layerflow.errors import DataError
from layerflow.parameter import Array

SECONDS = 30.0
LARGEST_FILE = 1 << 20
LEVELS = ("verdict", "evidence", "diagnosis", "hint")
IMPORTS = {"numpy", "layerflow", "math", "typing", "collections", "functools", "itertools", "dataclasses", "__future__"}
REFUSED = {
    "open", "exec", "eval", "compile", "__import__", "globals", "vars", "getattr", "setattr", "breakpoint", "input",
    "memoryview", "delattr",
}  # fmt: skip
POINTS = {"output": 3, "shapes": 1}
BEHAVIOUR = ("inputs and gradient unchanged", "same result twice", "x is unchanged")
LOOPS = ast.For | ast.While | ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.SetComp


@dataclass
class Item:
    """One thing that is graded.

    Attributes:
        points: earned, of `most`.
        message: what is wrong, empty if nothing is.
    """

    name: str
    most: int
    points: int = 0
    message: str = ""


@dataclass
class Grade:
    """The result of grading one file."""

    exercise: str
    file: str
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(item.points for item in self.items)

    @property
    def most(self) -> int:
        return sum(item.most for item in self.items)


def grade(file: Path, exercise: Exercise, seed: int = 0, seconds: float = SECONDS, level: str = "diagnosis") -> Grade:
    """Grade a file.

    Args:
        file: what a student hands in.
        exercise: what it is a solution of.
        seed: of the hidden cases.
        seconds: after which it is ended.
        level: how much is said: "verdict", "evidence", "diagnosis" or "hint", each with those before.

    Raises:
        DataError: the file cannot be read.
    """
    text = _text(file)
    rng = np.random.default_rng([seed, sum(exercise.name.encode())])
    cases = [exercise.cases(rng) for _ in range(SEEDS)]
    upstreams, expected = zip(*[_right(exercise, case, rng) for case in cases], strict=True)
    found = Grade(exercise.name, str(file), _items(exercise, expected[0]))
    if refusal := _refusal(text, exercise):
        found.items[0].message = refusal
        return found
    result, arrays, ended = _run(text, exercise, cases, list(upstreams), seconds, level in LEVELS[2:])
    _compare(found, exercise, list(expected), arrays, result.get("errors", {}), ended, text)
    if level == "verdict":
        for item in found.items:
            item.message = "" if item.points == item.most else "not right yet"
    if level in LEVELS[2:]:
        found.notes += [f"looks like: {each}" for each in result.get("diagnoses", ())]
    if level == "hint" and found.points < found.most:
        found.notes.append(f"hint: {exercise.hints[0]}")
    return found


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise DataError(f"{file}: larger than {LARGEST_FILE >> 20} MiB, which no solution is")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _right(exercise: Exercise, case: Case, rng: np.random.Generator) -> tuple[Array | None, Results]:
    """The upstream gradient of a case, and what is right."""
    upstream = None
    if exercise.kind == "gate":
        shape = np.shape(exercise.reference(**case.arguments).forward(*case.inputs))
        upstream = np.asarray(rng.normal(size=shape))
    target = exercise.reference if exercise.kind in ("gate", "optimizer") else exercise.reference()
    return upstream, PROBES[exercise.kind](made(exercise.kind, target, case), case, upstream)


def _items(exercise: Exercise, expected: Results) -> list[Item]:
    items = []
    for name in expected:
        if name == "output" and exercise.blank == "backward":
            continue  # it is given
        items.append(Item(name, 1 if name in BEHAVIOUR else POINTS.get(name, 2)))
    if exercise.kind == "gate":
        items.append(Item("shapes", POINTS["shapes"]))
    if exercise.no_loops:
        items.append(Item("no Python loops", 1))
    return items


def _refusal(text: str, exercise: Exercise) -> str:
    """Why a file is not run at all; empty if it may be."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        return f"line {getattr(error, 'lineno', 1)}: the file is not Python: {getattr(error, 'msg', error)}"
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if exercise.target not in defined:
        return f"the file defines no {exercise.target}; the hand-out is written by `layerflow exercise {exercise.name} -o FILE`"
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] not in IMPORTS or name.startswith(
                ("layerflow.gates", "layerflow.course", "layerflow.interop")
            ):
                return f"line {line}: import {name}: a solution imports NumPy, layerflow and a few modules of Python's alone"
        if isinstance(node, ast.Name) and node.id in REFUSED:
            return f"line {line}: {node.id}() is not used in a solution"
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and node.attr not in ("__init__", "__name__"):
            return f"line {line}: .{node.attr} is not used in a solution"
    return ""


def _run(
    text: str, exercise: Exercise, cases: list[Case], upstreams: list[Any], seconds: float, diagnose: bool
) -> tuple[dict[str, Any], dict[str, Array], str]:
    """Run a file in a process of its own; return what it says, the arrays, and why it ended early, if so."""
    with tempfile.TemporaryDirectory(prefix="layerflow-grade-") as name:
        folder = Path(name)
        (folder / "submission.py").write_text(text, encoding="utf-8")
        _write_job(folder, exercise, cases, upstreams, diagnose)
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path[:0] = [{root!r}]; from layerflow.course.sandbox import main; main({name!r})"
        environment = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR") if key in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", code], cwd=name, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
            env=environment | {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        ended = ""
        try:
            code_of = process.wait(timeout=seconds)
            if code_of:
                ended = f"the program ended by itself, with code {code_of}"
        except subprocess.TimeoutExpired:
            ended = f"it took longer than {seconds:g} seconds: is there an endless loop?"
        finally:
            _end(process)
        try:
            with np.load(folder / "result.npz") as archive:
                arrays = {key: archive[key] for key in archive.files}
            return json.loads(str(arrays.pop("result"))), arrays, ended
        except (OSError, ValueError, KeyError):
            return {}, {}, ended or "it left no result"


def _write_job(folder: Path, exercise: Exercise, cases: list[Case], upstreams: list[Any], diagnose: bool) -> None:
    arrays: dict[str, Any] = {}
    job: dict[str, Any] = {
        "target": exercise.target, "kind": exercise.kind, "diagnose": diagnose, "arguments": [], "arrays": [], "inputs": []
    }  # fmt: skip
    for i, (case, upstream) in enumerate(zip(cases, upstreams, strict=True)):
        held = {name: value for name, value in case.arguments.items() if isinstance(value, np.ndarray)}
        job["arguments"].append({name: value for name, value in case.arguments.items() if name not in held})
        job["arrays"].append(list(held))
        job["inputs"].append(len(case.inputs))
        arrays |= {f"{i}/argument/{name}": value for name, value in held.items()}
        arrays |= {f"{i}/input/{j}": value for j, value in enumerate(case.inputs)}
        if case.steps:
            arrays[f"{i}/steps"] = np.stack(case.steps)
        if upstream is not None:
            arrays[f"{i}/upstream"] = upstream
    np.savez(folder / "job.npz", job=np.array(json.dumps(job)), **arrays)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, 9)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _compare(
    found: Grade, exercise: Exercise, expected: list[Results], arrays: dict[str, Array], errors: dict[str, str],
    ended: str, text: str,
) -> None:  # fmt: skip
    """Give the points of each item: those that are right in all cases, and half of them if in some."""
    if "file" in errors or (ended and not arrays):
        found.items[0].message = errors.get("file") or ended
        return
    for item in found.items:
        if item.name == "no Python loops":
            loops = [node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, LOOPS)]
            item.message = f"line {loops[0]}: a loop; work on whole arrays" if loops else ""
            item.points = 0 if loops or errors else item.most
            continue
        right, message = 0, ""
        for number, results in enumerate(expected):
            wrong = errors.get(str(number)) or _wrong(item.name, results, arrays, f"{number}/", exercise)
            right += not wrong
            message = message or wrong
        item.points = item.most if right == len(expected) else item.most // 2 if right else 0
        item.message = message
    if ended:
        found.notes.append(ended)


def _wrong(name: str, right: Results, arrays: dict[str, Array], prefix: str, exercise: Exercise) -> str:
    """What is wrong with a result; empty if it is right."""
    if name == "shapes":
        for each, value in right.items():
            found = arrays.get(prefix + each)
            if found is not None and found.shape != value.shape:
                return f"{each} has shape {found.shape}, expected {value.shape}"
        missing = [each for each in right if prefix + each not in arrays]
        return f"no {missing[0]} was returned" if missing else ""
    found = arrays.get(prefix + name)
    if found is None:
        return "it was not returned"
    if name in BEHAVIOUR:
        return "" if bool(found) else f"not so: {name}"
    value = right[name]
    if found.shape != value.shape:
        return f"has shape {found.shape}, expected {value.shape}"
    tolerance = 1e-5 if exercise.kind == "differences" else 1e-7
    if found.dtype.kind not in "biuf":
        return f"holds {found.dtype}, expected numbers"
    is_right = np.isclose(found, value, rtol=tolerance, atol=tolerance)
    if is_right.all():
        return ""
    place = tuple(map(int, np.argwhere(~is_right)[0]))
    at = f" at {list(place)}" if place else ""
    return (
        f"{(~is_right).sum()} of {value.size} wrong: {float(found[place]):.6g}{at}, expected {float(value[place]):.6g}"
    )
