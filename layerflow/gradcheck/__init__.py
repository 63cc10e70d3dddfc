"""The gradient check: honest, complete, and it names the mistake."""

from layerflow.gradcheck.entry import assert_gradients, check_gradients
from layerflow.gradcheck.jacobian import jacobian, numeric_jacobian
from layerflow.gradcheck.verdicts import Diagnosis, Report, TensorReport, Worst

__all__ = [
    "Diagnosis",
    "Report",
    "TensorReport",
    "Worst",
    "assert_gradients",
    "check_gradients",
    "jacobian",
    "numeric_jacobian",
]
