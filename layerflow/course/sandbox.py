"""The process that runs a student's file: it sees the cases, never the right results.

Run as `python -c "from layerflow.course.sandbox import main; main(FOLDER)"`: reads `job.npz` and `submission.py` there, and
writes `result.npz`.
"""

import contextlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.course.exercises import Case
from layerflow.course.probes import PROBES, made
from layerflow.gate import Gate
from layerflow.gradcheck import check_gradients

MEMORY = 4 << 30
FILE_SIZE = 64 << 20


def main(folder: str) -> None:
    """Run all cases; what goes wrong is part of the result."""
    place = Path(folder)
    job, cases, upstreams = read_job(place / "job.npz")
    _limit()
    _block_built_in_gates()
    result: dict[str, Any] = {"errors": {}, "diagnoses": []}
    arrays: dict[str, Any] = {}
    try:
        target = _target(place / "submission.py", job["target"])
    except BaseException as error:
        result["errors"]["file"] = _told(error)
        write_result(place, result, arrays)
        return
    for number, (case, upstream) in enumerate(zip(cases, upstreams, strict=True)):
        try:
            for name, value in PROBES[job["kind"]](made(job["kind"], target, case), case, upstream).items():
                arrays[f"{number}/{name}"] = value
        except BaseException as error:
            result["errors"][str(number)] = _told(error)
    if job["kind"] == "gate" and job["diagnose"] and not result["errors"]:
        result["diagnoses"] = _diagnosed(target, cases[0])
    write_result(place, result, arrays)


def read_job(path: Path) -> tuple[dict[str, Any], list[Case], list[Any]]:
    """What is to be done."""
    with np.load(path) as archive:
        held = {name: archive[name] for name in archive.files}
    job = json.loads(str(held["job"]))
    cases, upstreams = [], []
    for i, plain in enumerate(job["arguments"]):
        arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        arguments |= {name: held[f"{i}/argument/{name}"] for name in job["arrays"][i]}
        inputs = tuple([held[f"{i}/input/{j}"] for j in range(job["inputs"][i])])
        steps = tuple(held[f"{i}/steps"]) if f"{i}/steps" in held else ()
        cases.append(Case(arguments, inputs, steps))
        upstreams.append(held.get(f"{i}/upstream"))
    return job, cases, upstreams


def write_result(folder: Path, result: dict[str, Any], arrays: dict[str, Any]) -> None:
    np.savez(folder / "result.npz", result=np.array(json.dumps(result)), **arrays)


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows: the time limit alone
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, FILE_SIZE)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows the limit of memory, and refuses it
            resource.setrlimit(kind, (most, most))


def _block_built_in_gates() -> None:
    """Make every gate of the catalogue refuse to run: who calls one has not written it."""
    from layerflow.gates import GATES

    def refused(self: Gate, *args: Any, **named: Any) -> Any:
        raise PermissionError("layerflow's own gates cannot be used in a solution")

    for name in list(GATES):
        gate = GATES[name]
        for method in ("__init__", "forward", "backward", "bare_forward", "bare_backward"):
            setattr(gate, method, refused)
    for name in [name for name in sys.modules if name.startswith("layerflow.gates")]:
        sys.modules[name] = None  # type: ignore[assignment]


def _target(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location("submission", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["submission"] = module
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise NameError(f"the file defines no {name}")
    return getattr(module, name)


def _told(error: BaseException) -> str:
    """An error in a student's words: what, and the line of the file."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith("submission.py")
    ]
    at = f"line {lines[-1]}: " if lines else ""
    if "layerflow.gates" in str(error):
        return f"{at}layerflow's own gates cannot be used in a solution"
    if isinstance(error, SyntaxError):
        at = f"line {error.lineno}: "
    return f"{at}{type(error).__name__}: {str(error)[:500]}"


def _diagnosed(target: Any, case: Case) -> list[str]:
    """What the gradient check says."""
    try:
        report = check_gradients(target(**case.arguments), *case.inputs)
        return [str(each)[:500] for each in report.diagnoses][:3]
    except BaseException:
        return []
