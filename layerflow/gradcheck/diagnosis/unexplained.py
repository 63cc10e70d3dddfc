"""What can be said of a wrong gradient that no hypothesis explains: where it is wrong, and by how much."""

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence


def pattern(evidence: Evidence) -> str:
    """Where the wrong elements are, and the ratio of analytic to numeric there, in one sentence."""
    wrong = evidence.known & ~evidence.right
    parts = [f"wrong at {int(np.sum(wrong))} of {evidence.count} elements"]
    for axis, length in enumerate(wrong.shape):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        touched = np.flatnonzero(np.any(wrong, axis=others))
        if 0 < len(touched) <= length // 2:
            parts.append(f"only at index {', '.join(map(str, touched))} of axis {axis}")
    both = wrong & ~evidence.is_zero(evidence.numeric) & np.isfinite(evidence.analytic)
    if np.any(both):
        ratio = evidence.analytic[both] / evidence.numeric[both]
        parts.append(f"analytic/numeric from {np.min(ratio):.3g} to {np.max(ratio):.3g}, median {np.median(ratio):.3g}")
    return f"{evidence.subject.name}.{evidence.name}: cause unknown; {'; '.join(parts)}"
