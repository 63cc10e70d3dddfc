"""Exercises: activation functions."""

import layerflow.gates as lf
from layerflow.course.exercises import Case, Exercise, Generator, built_in, gate_text, normal, one_input, sizes


def _slope(rng: Generator) -> Case:
    return Case({"negative_slope": float(rng.choice([0.01, 0.1, 0.3]))}, (normal(rng, *sizes(rng, 2)),))


def _alpha(rng: Generator) -> Case:
    return Case({"alpha": float(rng.choice([0.5, 1.0, 1.7]))}, (normal(rng, *sizes(rng, 2)),))


EXERCISES = [
    Exercise(
        "relu", "The rectifier passes the gradient where it passed the input", "ReLU",
        gate_text("ReLU", "y = max(x, 0).", forward="self.save(x)\nreturn np.maximum(x, 0)"),
        ("What is the slope of max(x, 0) left of 0, and right of it?", "It is 0 or 1: a mask.", "grad * (x > 0)"),
        one_input, built_in(lf.ReLU), no_loops=True,
    ),
    Exercise(
        "leaky_relu", "A rectifier that never dies", "LeakyReLU",
        gate_text("LeakyReLU", "y = x for x > 0, negative_slope * x elsewhere.",
                  "def __init__(self, negative_slope=0.01):\n    self.negative_slope = negative_slope",
                  "...", "..."),
        ("np.where chooses element by element.", "Both directions need the same mask.",
         "np.where(x > 0, grad, self.negative_slope * grad)"),
        _slope, built_in(lf.LeakyReLU), blank="both", no_loops=True,
    ),
    Exercise(
        "sigmoid", "The sigmoid's derivative is made of the sigmoid", "Sigmoid",
        gate_text("Sigmoid", "y = 1 / (1 + e^-x).", forward="y = 1 / (1 + np.exp(-x))\nself.save(y)\nreturn y"),
        ("Differentiate 1 / (1 + e^-x), and find y in the result.", "dy/dx = y (1 - y).",
         "(y,) = self.saved"),
        one_input, built_in(lf.Sigmoid), no_loops=True,
    ),
    Exercise(
        "tanh", "The hyperbolic tangent", "Tanh",
        gate_text("Tanh", "y = tanh(x).", forward="y = np.tanh(x)\nself.save(y)\nreturn y"),
        ("tanh = sinh / cosh.", "dy/dx = 1 - y^2.", "forward has saved y."),
        one_input, built_in(lf.Tanh), no_loops=True,
    ),
    Exercise(
        "elu", "An exponential below zero", "ELU",
        gate_text("ELU", "y = x for x > 0, alpha * (e^x - 1) elsewhere.",
                  "def __init__(self, alpha=1.0):\n    self.alpha = alpha", "...", "..."),
        ("Left of 0, dy/dx = alpha e^x.", "That is y + alpha.", "np.where in both directions; np.expm1(x) is e^x - 1"),
        _alpha, built_in(lf.ELU), blank="both", no_loops=True,
    ),
    Exercise(
        "softplus", "The smooth rectifier", "Softplus",
        gate_text("Softplus", "y = ln(1 + e^x).", forward="self.save(x)\nreturn np.logaddexp(0, x)"),
        ("The chain rule: 1 / (1 + e^x) times e^x.", "That is the sigmoid of x.", "grad / (1 + np.exp(-x))"),
        one_input, built_in(lf.Softplus), no_loops=True,
    ),
    Exercise(
        "silu", "x times its own sigmoid", "SiLU",
        gate_text("SiLU", "y = x s(x), s(x) = 1 / (1 + e^-x).",
                  forward="s = 1 / (1 + np.exp(-x))\nself.save(x, s)\nreturn x * s"),
        ("It is a product: two terms.", "s' = s (1 - s).", "s + x s (1 - s)"),
        one_input, built_in(lf.SiLU), no_loops=True,
    ),
    Exercise(
        "softmax", "A function whose outputs depend on all inputs", "Softmax",
        gate_text("Softmax", "p = e^x / the sum of e^x over the row: x (batch, classes).",
                  forward="e = np.exp(x - x.max(axis=1, keepdims=True))\np = e / e.sum(axis=1, keepdims=True)\n"
                          "self.save(p)\nreturn p"),
        ("dp_i/dx_j = p_i (1 if i = j else 0) - p_i p_j.", "Sum over i before you multiply by p_j: no Jacobian is needed.",
         "p * (grad - (grad * p).sum(axis=1, keepdims=True))"),
        one_input, built_in(lf.Softmax), no_loops=True,
    ),
]  # fmt: skip
