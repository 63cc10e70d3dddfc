"""The search for an operation of forward that backward differentiates wrongly.

No gate is known to it. Every hypothesis changes how one operation (or all its calls, in a loop over steps) responds to
its operands, and takes differences of the forward so changed: that is what a backward with this mistake returns.
"""

import numpy as np

from layerflow.gradcheck.diagnosis import operations, paths
from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding
from layerflow.gradcheck.diagnosis.probe import WORK, Hypothesis, Probe, grouped
from layerflow.gradcheck.diagnosis.replay import Replay

FAMILIES = (
    paths.edges,
    paths.reductions,
    operations.functions,
    operations.selections,
    operations.products,
    operations.stretches,
    paths.steps,
)


def wrong_operation(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of a forward in which one operation responds differently to its operands."""
    replay: Replay = evidence.replay
    if not replay.calls or evidence.count < 1 or not np.all(np.isfinite(evidence.analytic)):
        return None
    probe = Probe(evidence, replay)
    groups = grouped(replay.calls)
    hypothesis: Hypothesis
    for hypothesis, factor in replay.explained:  # one mistake often spoils several gradients
        if probe.screened(hypothesis) is not None and probe.explains(hypothesis, factor):
            return hypothesis.tell(factor)
    for family in FAMILIES:
        fitting: list[tuple[Hypothesis, float]] = []
        for hypothesis in family(replay.calls, groups):
            if replay.work > WORK:
                break
            found = probe.screened(hypothesis)
            if found is not None:
                fitting.append((hypothesis, found))
        for hypothesis, factor in sorted(fitting, key=lambda item: item[0].rank(item[1])):
            if probe.explains(hypothesis, factor):
                replay.explained.append((hypothesis, factor))
                return hypothesis.tell(factor)
    return paths.factor_array(evidence, probe, groups)
