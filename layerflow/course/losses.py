"""Exercises: losses."""

from collections.abc import Callable

import layerflow.gates as lf
from layerflow.course.exercises import Case, Exercise, Generator, built_in, gate_text, normal, sizes


def _labelled(*names: str) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        n, classes = sizes(rng, 2, 3)
        arguments = {"margin": float(rng.choice([0.5, 1.0, 2.0]))} if "margin" in names else {}
        return Case(arguments, (normal(rng, n, classes), rng.integers(0, classes, n)))

    return case


def _yes_or_no(rng: Generator) -> Case:
    n = sizes(rng, 1, 4, 9)[0]
    return Case(inputs=(0.8 * normal(rng, n), rng.integers(0, 2, n)))


def _numbers(rng: Generator) -> Case:
    n, k = sizes(rng, 2)
    return Case(inputs=(normal(rng, n, k), normal(rng, n, k)))


def _huber(rng: Generator) -> Case:
    return Case({"delta": float(rng.choice([0.5, 1.0]))}, _numbers(rng).inputs)


EXERCISES = [
    Exercise(
        "squared_error", "The squared error, averaged over the batch", "SquaredError",
        gate_text("SquaredError", "L = the mean over the batch of the sum over outputs of (s - t)^2: s, t (batch, outputs).",
                  forward="self.save(s - t)\nreturn ((s - t) ** 2).sum() / len(s)", x="s, t"),
        ("grad is one number.", "The mean divides by the batch size, not by the number of elements.",
         "return (grad * 2 * difference / len(difference), None), {}"),
        _numbers, built_in(lf.SquaredError), no_loops=True,
    ),
    Exercise(
        "huber", "Quadratic near, linear far", "Huber",
        gate_text("Huber", "L = the mean over the batch of the sum over outputs of h(s - t), with\n"
                           "    h(d) = d^2 / 2 for |d| <= delta, delta (|d| - delta / 2) elsewhere.",
                  "def __init__(self, delta=1.0):\n    self.delta = delta", "...", "...", "s, t"),
        ("h'(d) is d, cut off at delta.", "np.clip cuts.", "np.clip(d, -self.delta, self.delta) * grad / len(d)"),
        _huber, built_in(lf.Huber), blank="both", no_loops=True,
    ),
    Exercise(
        "softmax_ce", "Softmax and cross entropy: p - t", "SoftmaxCE",
        gate_text("SoftmaxCE", "L = the mean of -ln p[label], p = softmax(scores): scores (batch, classes), labels (batch,).",
                  forward="e = np.exp(scores - scores.max(axis=1, keepdims=True))\n"
                          "p = e / e.sum(axis=1, keepdims=True)\nself.save(p, labels)\n"
                          "return -np.log(p[np.arange(len(labels)), labels]).mean()", x="scores, labels"),
        ("-ln p_label = -s_label + ln of the sum of e^s.", "Its derivative is p_j, less 1 where j is the label.",
         "Take p, subtract 1 at [arange, labels], divide by the batch size; the labels get None."),
        _labelled(), built_in(lf.SoftmaxCE), no_loops=True,
    ),
    Exercise(
        "svm", "The multiclass hinge loss", "MulticlassSVM",
        gate_text("MulticlassSVM", "L = the mean of the sum over j != label of max(0, s_j - s_label + margin).",
                  "def __init__(self, margin=1.0):\n    self.margin = margin", "...", "...", "scores, labels"),
        ("Which of the terms are not 0?", "Each of them adds 1 to dL/ds_j, and takes 1 from dL/ds_label.",
         "Make the mask (batch, classes), set its label column to minus its row sum."),
        _labelled("margin"), built_in(lf.MulticlassSVM), blank="both", no_loops=True,
    ),
    Exercise(
        "sigmoid_ce", "Logistic regression", "SigmoidCE",
        gate_text("SigmoidCE", "L = the mean of ln(1 + e^-m), m = s for the target 1 and -s for the target 0: s (batch,).",
                  forward="sign = 2 * t - 1\nself.save(sign, sign * s)\nreturn np.logaddexp(0, -sign * s).mean()", x="s, t"),
        ("The chain: L of m, m of s.", "dL/dm = -1 / (1 + e^m), dm/ds is the sign.", "Divide by the batch size."),
        _yes_or_no, built_in(lf.SigmoidCE), no_loops=True,
    ),
    Exercise(
        "clipped_nll", "The negative log likelihood of a linear, clipped probability", "ClippedNLL",
        gate_text("ClippedNLL", "L = the mean of -ln p, p = (1 + m) / 2 clipped to [1e-7, 1], m = s for the target 1, -s for 0.",
                  forward="sign = 2 * t - 1\np = (1 + sign * s) / 2\nself.save(sign, p)\n"
                          "return -np.log(np.clip(p, 1e-7, 1)).mean()", x="s, t"),
        ("Where p is clipped, it does not move.", "Elsewhere dL/dp = -1 / p and dp/ds = sign / 2.",
         "np.where((p > 1e-7) & (p < 1), ..., 0)"),
        _yes_or_no, built_in(lf.ClippedNLL), no_loops=True,
    ),
    Exercise(
        "logistic_likelihood", "The likelihood itself, without a logarithm", "LogisticLikelihood",
        gate_text("LogisticLikelihood", "L = the mean of 1 - 1 / (1 + e^-m), m = s for the target 1 and -s for the target 0.",
                  forward="sign = 2 * t - 1\np = 1 / (1 + np.exp(-sign * s))\nself.save(sign, p)\nreturn (1 - p).mean()",
                  x="s, t"),
        ("dp/dm = p (1 - p).", "The sign of m, and the minus of 1 - p.",
         "-sign * p * (1 - p) * grad / len(p): it vanishes where the classifier is surely wrong."),
        _yes_or_no, built_in(lf.LogisticLikelihood), no_loops=True,
    ),
    Exercise(
        "l2", "Weight decay as a gate", "L2Regularizer",
        gate_text("L2Regularizer", "L = strength * the sum of w^2.",
                  "def __init__(self, strength=1e-3):\n    self.strength = strength",
                  "self.save(w)\nreturn self.strength * (w**2).sum()", "...", "w"),
        ("Each weight has its own term.", "d w^2 / dw = 2 w.", "grad is one number."),
        lambda rng: Case({"strength": float(rng.choice([0.1, 0.01]))}, (normal(rng, *sizes(rng, 2)),)),
        built_in(lf.L2Regularizer), no_loops=True,
    ),
]  # fmt: skip
