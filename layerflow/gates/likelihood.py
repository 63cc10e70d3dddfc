"""Losses that are negative log likelihoods of a distribution other than the normal one of fixed width."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gradients, Shape
from layerflow.gates.regression import ElementLoss
from layerflow.parameter import Array


class PoissonNLL(ElementLoss):
    """L = mean of e^s - t s: counts t of a Poisson distribution whose mean is e^s, without the constant ln t!.

    Shapes: scores (batch, ...), logarithms of the means; targets of the same shape, 0 or more, where (batch,) also fits
    scores (batch, 1); weights (batch,) -> L (). It is summed over the outputs and averaged over the batch.
    Local gradient: dL/ds = share * (e^s - t), share being the sample's weight over the sum of weights.
    Source: McCullagh and Nelder 1989, Generalized Linear Models, section 6.2.

    Raises:
        GateError: scores, targets or weights of the wrong shape; a negative target; an empty batch.
    """

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        counts = nonnegative(self, self.fitted(scores, targets), "counts")
        share = self.column(scores, weights)
        means = np.exp(scores)
        self.save(means, counts, share)
        return (share * (means - counts * scores)).sum()

    def backward(self, grad: Any) -> Gradients:
        means, counts, share = self.saved
        return self.gradient(grad * share * (means - counts))

    def prediction(self, scores: Array) -> Array:
        """Return the means, e^s."""
        return np.exp(scores)


class GaussianNLL(ElementLoss):
    """L = mean of (ln v + (t - m)^2 / v) / 2: a normal distribution of mean m and variance v, s = (m, ln v).

    Shapes: scores (batch, 2 k), the means of k outputs and then the logarithms of their variances; targets (batch, k),
    or (batch,) for k = 1; weights (batch,) -> L (). It is summed over the outputs and averaged over the batch.
    Local gradient: dL/dm = share * (m - t) / v and dL/d ln v = share * (1 - (t - m)^2 / v) / 2, share being the
    sample's weight over the sum of weights.
    Source: Nix and Weigend 1994, Estimating the Mean and Variance of the Target Probability Distribution.

    Raises:
        GateError: scores that do not have two columns per target; targets or weights of the wrong shape; an empty
            batch.
    """

    def expect(self, scores: Shape, targets: Shape) -> None:
        if len(scores) != 2 or scores[1] % 2 or scores[1] == 0:
            raise GateError(f"{self!r}: scores of shape {scores}, expected (batch, 2 k): k means, k log variances")
        super().expect((scores[0], scores[1] // 2), targets)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        self.expect(scores.shape, targets.shape)
        means, log_variances = np.split(scores, 2, axis=1)
        residual = means - targets.reshape(means.shape).astype(scores.dtype)
        share = self.column(scores, weights)
        precision = np.exp(-log_variances)
        self.save(residual, precision, share)
        return 0.5 * (share * (log_variances + residual * residual * precision)).sum()

    def backward(self, grad: Any) -> Gradients:
        residual, precision, share = self.saved
        scaled = residual * precision
        return self.gradient(grad * share * np.hstack([scaled, 0.5 * (1 - residual * scaled)]))

    def prediction(self, scores: Array) -> Array:
        """Return the means."""
        return scores[:, : scores.shape[1] // 2]


class KLDivergence(ElementLoss):
    """L = mean of t (ln t - s): the divergence of a distribution t from another, given by its logarithm s.

    Shapes: scores (batch, ...), logarithms of probabilities, as `LogSoftmax` returns them; targets of the same shape,
    probabilities; weights (batch,) -> L (). It is summed over each sample and averaged over the batch; 0 ln 0 = 0.
    Local gradient: dL/ds = -share * t, share being the sample's weight over the sum of weights.
    Source: Kullback and Leibler 1951, On Information and Sufficiency.

    Raises:
        GateError: scores, targets or weights of the wrong shape; a negative target; an empty batch.
    """

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        wanted = nonnegative(self, self.fitted(scores, targets), "probabilities")
        share = self.column(scores, weights)
        self.save(wanted, share)
        return (share * wanted * (np.log(np.where(wanted > 0, wanted, 1)) - scores)).sum()

    def backward(self, grad: Any) -> Gradients:
        wanted, share = self.saved
        return self.gradient(-grad * share * wanted)


def nonnegative(gate: ElementLoss, targets: Array, what: str) -> Array:
    """Return the targets after checking that none is negative."""
    if not (targets >= 0).all():
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(targets >= 0)), targets.shape))
        raise GateError(f"{gate!r}: target {targets[first]} at {first}; {what} are 0 or more")
    return targets
