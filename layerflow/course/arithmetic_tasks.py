"""Exercises: gates of arithmetic, and what happens where a value is used twice."""

from typing import Any

import numpy as np

import layerflow.gates as lf
from layerflow.containers.graph import ComputationalGraph
from layerflow.course.exercises import Case, Exercise, Generator, built_in, gate_text, normal, one_input, sizes


def _two(rng: Generator) -> Case:
    shape = sizes(rng, 2)
    return Case(inputs=(normal(rng, *shape), normal(rng, *shape) + 0.1))


def _apart(rng: Generator) -> Case:
    shape = sizes(rng, 2)
    return Case(inputs=(normal(rng, *shape) + 3, np.abs(normal(rng, *shape)) + 1))


def _matrices(rng: Generator) -> Case:
    n, m, k = sizes(rng, 3)
    return Case(inputs=(normal(rng, n, k), normal(rng, k, m)))


def _rows(rng: Generator) -> Case:
    n, m = sizes(rng, 2)
    return Case(inputs=(normal(rng, n, m), normal(rng, m)))


def _fork() -> Any:
    graph = ComputationalGraph()
    x = graph.input("x")
    graph.output(x * x + 3.0 * x)
    return graph


EXERCISES = [
    Exercise(
        "add", "Addition hands the gradient on to both inputs", "Add",
        gate_text("Add", "y = a + b, for arrays of one shape.", forward="self.save()\nreturn a + b", x="a, b"),
        ("What is dy/da for y = a + b? It does not depend on a.", "The upstream gradient times 1, for each input.",
         "return (grad, grad), {}"),
        _two, built_in(lf.Add),
    ),
    Exercise(
        "multiply", "Multiplication swaps its inputs", "Multiply",
        gate_text("Multiply", "y = a * b, element by element.", forward="self.save(a, b)\nreturn a * b", x="a, b"),
        ("dy/da is what a is multiplied by.", "The gradient of each input is grad times the other input.",
         "a, b = self.saved; return (grad * b, ...), {}"),
        _two, built_in(lf.Multiply),
    ),
    Exercise(
        "divide", "The derivative of a quotient", "Divide",
        gate_text("Divide", "y = a / b, element by element.", forward="self.save(a, b)\nreturn a / b", x="a, b"),
        ("Write y = a * (1 / b).", "dy/db = -a / b^2.", "Two gradients: grad / b and -grad * a / b**2."),
        _apart, built_in(lf.Divide),
    ),
    Exercise(
        "maximum", "The larger input gets all of the gradient", "Maximum",
        gate_text("Maximum", "y = the larger of a and b, element by element; they differ everywhere.",
                  forward="self.save(a > b)\nreturn np.maximum(a, b)", x="a, b"),
        ("The smaller input does not move y at all.", "Use the mask that forward has saved, and its opposite.",
         "(mask,) = self.saved; grad * mask for a"),
        _two, built_in(lf.Maximum),
    ),
    Exercise(
        "fork", "A value that is used twice: gradients add", "Fork",
        gate_text("Fork", "y = x * x + 3 x: x is used twice.", forward="self.save(x)\nreturn x * x + 3 * x"),
        ("Along each way from x to y there is a gradient.", "The gradients of all ways are added.",
         "2 x from the product, where x stands twice, and 3."),
        one_input, lambda: _fork(),
    ),
    Exercise(
        "sum_rows", "The gradient of a sum goes to all of its terms", "SumRows",
        gate_text("SumRows", "y[i] = the sum of row i: x (rows, columns) -> y (rows,).",
                  forward="self.save(x.shape)\nreturn x.sum(axis=1)"),
        ("Each element of a row moves its sum by as much as it moves itself.",
         "Every element of row i gets grad[i].", "np.broadcast_to(grad[:, None], shape).copy()"),
        one_input, built_in(lambda: lf.Sum(axis=1)), no_loops=True,
    ),
    Exercise(
        "add_bias", "Broadcasting forward is summing backward", "AddBias",
        gate_text("AddBias", "y = x + b: x (batch, features), b (features,) is added to each row.",
                  forward="self.save()\nreturn x + b", x="x, b"),
        ("b is used once for each row.", "What forward repeats along an axis, backward sums over it.",
         "grad for x, grad.sum(axis=0) for b"),
        _rows, built_in(lf.Add), no_loops=True,
    ),
    Exercise(
        "matmul", "The gradients of a matrix product", "MatMul",
        gate_text("MatMul", "Y = A B: A (n, k), B (k, m).", forward="self.save(a, b)\nreturn a @ b", x="a, b"),
        ("The gradient of A has the shape of A.", "Only one product of grad, (n, m), and B has that shape.",
         "grad @ b.T and a.T @ grad"),
        _matrices, built_in(lf.MatMul), no_loops=True,
    ),
]  # fmt: skip
