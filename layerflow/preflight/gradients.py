"""A quick gradient check of the whole objective: model, loss and regularizers."""

import numpy as np

from layerflow.preflight.context import Context
from layerflow.preflight.finding import Finding, judge

SAMPLES, ELEMENTS = 4, 64


def gradient_check(context: Context) -> Finding | None:
    """The gradient of the objective with respect to all parameters agrees with differences."""
    from layerflow.gradcheck import check_gradients  # which takes longer to import than the short preflight to run

    trainer = context.fresh_trainer()
    if not trainer.state.store.size:
        return None
    rng = np.random.default_rng(context.config.seed)
    x = context.x[:SAMPLES].astype(np.float64)
    x *= 1 + 1e-9 * rng.random(x.shape)  # numbers that float32 can hold hide a gate that computes in float32
    report = check_gradients(
        trainer.state.objective, x, context.y[:SAMPLES], seed=context.config.seed, samples=ELEMENTS
    )
    compared = sum(tensor.checked + tensor.directions for tensor in report.tensors)
    worst = report.worst.relative_error if report.worst else None
    if report.ok:
        return judge("gradient check", worst, f"{compared} derivatives of the objective agree with differences")
    if report.guilty is not None:
        name, inner = report.guilty
        said = [str(item) for item in (*inner.faults, *inner.diagnoses)]
        wrong = ", ".join(tensor.name for tensor in inner.tensors if tensor.verdict == "wrong")
        evidence = f"gate {name.removeprefix('model.')!r} ({inner.gate}) has a wrong gradient" + (
            f" ({wrong})" if wrong else ""
        )
        remedy = said[0] if said else "`lf.check_gradients(gate, x)` shows every element"
        return judge("gradient check", worst, evidence, remedy, bad=True)
    wrong = ", ".join(tensor.name for tensor in report.tensors if tensor.verdict == "wrong")
    if wrong or report.faults:
        evidence = f"the gradient of {wrong} differs from differences" if wrong else str(report.faults[0])
        return judge("gradient check", worst, evidence, "`lf.check_gradients(model, x)` shows every element", bad=True)
    evidence = f"{compared} derivatives were compared, but rounding or kinks leave some undecided"
    return judge("gradient check", worst, evidence, "check the gates one by one with `lf.check_gradients`", look=True)
