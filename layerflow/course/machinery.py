"""Exercises: optimizers, and the machinery itself."""

import textwrap
from collections.abc import Callable
from typing import Any

from layerflow.course.exercises import HEAD, Case, Exercise, Generator, normal, sizes
from layerflow.course.probes import differentiated, expression, sample_function
from layerflow.training import adaptive, optimizers


def _optimizer_text(name: str, formula: str, init: str) -> str:
    return (
        f'{HEAD}class {name}(lf.Optimizer):\n    """{formula}\n\n    self.slot("name") is a vector of this optimizer, zeros at first; '
        f'self.steps counts from 1.\n    """\n\n{textwrap.indent(init, "    ")}\n\n    def update(self, values, grads):\n        ...\n'
    )


def _steps(**arguments: Any) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        n = int(rng.integers(3, 7))
        return Case({**arguments, "lr": float(rng.choice([0.1, 0.01]))}, (normal(rng, n),), tuple(normal(rng, 6, n)))

    return case


def _graph(rng: Generator) -> Case:
    """A graph with one possible order: a chain under random names, with shortcuts."""
    n = int(rng.integers(5, 9))
    names = [f"g{i}" for i in rng.permutation(n)]
    reads = {name: [names[i - 1]] if i else [] for i, name in enumerate(names)}
    for _ in range(n):
        first, second = sorted(rng.choice(n, 2, replace=False))
        reads[names[second]].append(names[first])
    return Case({"graph": {name: sorted(set(reads[name])) for name in sorted(reads)}})


def _order(graph: dict[str, list[str]]) -> list[str]:
    found: list[str] = []
    while len(found) < len(graph):
        found += [name for name in graph if name not in found and all(each in found for each in graph[name])][:1]
    return found


EXERCISES = [
    Exercise(
        "sgd", "Gradient descent", "SGD",
        _optimizer_text("SGD", "values = values - lr * grads, in place.", "def __init__(self, lr):\n    self.lr = lr"),
        ("`values -= ...` changes an array in place; `values = ...` does not.", "One line.", "values -= self.lr * grads"),
        _steps(), optimizers.SGD, "optimizer", no_loops=True,
    ),
    Exercise(
        "momentum", "Gradient descent with momentum", "Momentum",
        _optimizer_text("Momentum", "velocity = momentum * velocity + grads; values = values - lr * velocity.",
                        "def __init__(self, lr, momentum=0.9):\n    self.lr, self.momentum = lr, momentum"),
        ("The velocity is a slot.", "Change it in place.", "velocity *= self.momentum; velocity += grads"),
        _steps(momentum=0.8), optimizers.SGD, "optimizer", no_loops=True,
    ),
    Exercise(
        "rmsprop", "A step size for every parameter", "RMSprop",
        _optimizer_text("RMSprop", "s = alpha * s + (1 - alpha) * grads^2; values = values - lr * grads / (sqrt(s) + eps).",
                        "def __init__(self, lr, alpha=0.99, eps=1e-8):\n    self.lr, self.alpha, self.eps = lr, alpha, eps"),
        ("One slot.", "eps is added outside the root.", "s *= alpha; s += (1 - alpha) * grads**2"),
        _steps(alpha=0.9), optimizers.RMSprop, "optimizer", no_loops=True,
    ),
    Exercise(
        "adagrad", "Steps that become smaller with what was seen", "Adagrad",
        _optimizer_text("Adagrad", "s = s + grads^2; values = values - lr * grads / (sqrt(s) + 1e-10).",
                        "def __init__(self, lr):\n    self.lr = lr"),
        ("One slot that only grows.", "np.sqrt", "s += grads**2"),
        _steps(), adaptive.Adagrad, "optimizer", no_loops=True,
    ),
    Exercise(
        "adam", "Momentum, step sizes, and the correction of their start", "Adam",
        _optimizer_text("Adam", "m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,\n"
                        "    values = values - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), t = self.steps.",
                        "def __init__(self, lr, betas=(0.9, 0.999), eps=1e-8):\n"
                        "    self.lr, self.betas, self.eps = lr, betas, eps"),
        ("Two slots.", "t starts at 1: self.steps.", "Correct copies, not the slots themselves."),
        _steps(betas=(0.8, 0.95)), optimizers.Adam, "optimizer", no_loops=True,
    ),
    Exercise(
        "topological_order", "The order of the forward sweep", "topological_order",
        'def topological_order(graph):\n    """The names of a graph\'s nodes, each after all that it reads.\n\n'
        '    graph: {name: [names of the nodes that it reads]}, in no special order.\n    """\n    ...\n',
        ("A node is ready when all that it reads is done.", "Start with those that read nothing.",
         "Repeat: append a node that is ready; or visit what a node reads before the node itself."),
        _graph, lambda: _order, "function",
    ),
    Exercise(
        "value", "An engine of scalars in thirty lines", "Value",
        'import math\n\n\nclass Value:\n    """A number that knows how it was made.\n\n'
        "    a + b, a * b (b a Value or a number, on either side), a.tanh(), a.data; after y.backward() a.grad is dy/da.\n"
        '    """\n\n    def __init__(self, data):\n        ...\n',
        ("Each result keeps its operands, and a function that hands its gradient on to them.",
         "backward: order all values so that each comes after what it uses; start with 1; go back.",
         "Use +=, since a value may be used twice."),
        lambda rng: Case(inputs=(normal(rng, 3),)), lambda: expression, "engine",
    ),
    Exercise(
        "numeric_gradient", "Checking a gradient with differences", "numeric_gradient",
        HEAD.replace("\nimport layerflow as lf\n", "") + 'def numeric_gradient(f, x):\n'
        '    """df/dx for every element of x, an array of any shape, by central differences; f(x) is one number.\n\n'
        '    x must be unchanged afterwards.\n    """\n    ...\n',
        ("(f(x + h) - f(x - h)) / (2 h), one element at a time.", "h = 1e-5 is a good size.",
         "np.ndindex(x.shape); put the old value back."),
        lambda rng: Case(inputs=(normal(rng, *sizes(rng, 2)),)), lambda: lambda f, x: differentiated(sample_function, x),
        "differences",
    ),
]  # fmt: skip
