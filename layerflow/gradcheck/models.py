"""A whole model that fails: each of its gates is checked by itself, on the values it received in the model."""

from dataclasses import replace
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.gradcheck.behaviour import observe
from layerflow.gradcheck.examine import examine
from layerflow.gradcheck.subject import Subject
from layerflow.gradcheck.verdicts import Report

FEW = 5  # samples on which a fault that no hypothesis explained is looked at again, element by element


def explain(report: Report, subject: Subject, samples: int, rtol: float) -> None:
    """Name the first gate, in the order of forward, that fails by itself; where none does, kinks are no failure.

    What a gate may not touch is watched even in a model whose gradients are right: a gate that spoils its upstream
    gradient does so unseen until another gate needs it.
    """
    if not isinstance(subject.gate, Container):
        return
    report.guilty = _first_guilty(subject, samples, rtol, is_right=report.ok)
    if report.guilty is not None:
        return
    wrong = [tensor for tensor in report.tensors if tensor.verdict == "wrong"]
    if not wrong or report.faults:
        return
    if all(tensor.wrong == tensor.wrong_at_kinks for tensor in wrong):
        report.tensors = [replace(tensor, verdict="ok") if tensor in wrong else tensor for tensor in report.tensors]
        report.notes.append(
            "some elements are close to kinks of several gates at once, where differences of the whole model decide "
            "nothing; every gate is right by itself, on the values it saw"
        )
    else:
        report.notes.append("every gate is right by itself, on the values it saw; look at how they are connected")


def _first_guilty(subject: Subject, samples: int, rtol: float, is_right: bool) -> tuple[str, Report] | None:
    model = subject.gate
    assert isinstance(model, Container)
    subject.run()
    seen = [[np.array(model.values[slot]) for slot in step.reads] for step in model.steps]
    for step, inputs in zip(model.steps, seen, strict=True):
        part = Subject(step.gate, inputs)
        if not part.tensors:
            continue
        report = Report(part.written, faults=observe(part).faults) if is_right else examine(part, samples, rtol)
        if report.faults or any(tensor.verdict == "wrong" for tensor in report.tensors):
            if not report.faults and not report.diagnoses:
                report.diagnoses = _on_few(step.gate, inputs, samples, rtol)
            return step.name, report
    return None


def _on_few(gate: Any, inputs: list[Any], samples: int, rtol: float) -> list[Any]:
    """The diagnosis on the first few samples, where there are more."""
    rows = {len(x) for x in inputs if x.ndim}
    if len(rows) != 1 or min(rows) <= FEW:
        return []
    try:
        return examine(Subject(gate, [x[:FEW] if x.ndim else x for x in inputs]), samples, rtol).diagnoses
    except Exception:  # the gate need not accept fewer samples
        return []
