"""Times one training step and one epoch of layerflow, side by side with its peers, in one run and as ratios.

    python scripts/bench_step.py                     # all sizes; PyTorch and scikit-learn where they are installed
    python scripts/bench_step.py --sizes 64-32-10 --rounds 50

Every contestant trains the same ReLU network (softmax cross entropy, SGD with momentum 0.9) in float32 on the same
batches. They take turns, round by round, so that whatever else the machine does hits all of them alike; shown is the
median of the rounds, and its ratio to the hand-written NumPy loop. Threads: as OPENBLAS_NUM_THREADS and
OMP_NUM_THREADS say.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np

import layerflow as lf
from layerflow.training.objective import Objective

SIZES = {"64-32-10": 64, "784-256-10": 128, "784-512-256-10": 128, "3072-1024-512-10": 256}
LR, MOMENTUM = 0.01, 0.9
Step = Callable[[np.ndarray, np.ndarray], None]


def hand_written(widths: list[int]) -> Step:
    """What a person writes without any framework: the same mathematics, spelled out for this network."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, (2 / m) ** 0.5, (n, m)).astype(np.float32) for m, n in pairwise(widths)]
    biases = [np.zeros(n, np.float32) for n in widths[1:]]
    parameters = weights + biases
    velocities = [np.zeros_like(parameter) for parameter in parameters]

    def step(x: np.ndarray, y: np.ndarray) -> None:
        activations = [x]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            activations.append(np.maximum(activations[-1] @ weight.T + bias, 0))
        scores = activations[-1] @ weights[-1].T + biases[-1]
        exps = np.exp(scores - scores.max(axis=1, keepdims=True))
        grad = exps / exps.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.log(grad[rows, y]).mean()
        assert np.isfinite(loss)
        grad[rows, y] -= 1
        grad /= len(y)
        weight_grads, bias_grads = [], []
        for index in reversed(range(len(weights))):
            weight_grads.insert(0, grad.T @ activations[index])
            bias_grads.insert(0, grad.sum(axis=0))
            if index:
                grad = (grad @ weights[index]) * (activations[index] > 0)
        for parameter, velocity, change in zip(parameters, velocities, weight_grads + bias_grads, strict=True):
            velocity *= MOMENTUM
            velocity += change
            parameter -= LR * velocity

    return step


def layerflow(widths: list[int]) -> Step:
    """The reference gates, driven as the trainer drives them."""
    gates: list[lf.Gate] = []
    for width in widths[1:-1]:
        gates += [lf.Linear(width), lf.ReLU()]
    model = lf.Sequential(*gates, lf.Linear(widths[-1]))
    rng = np.random.default_rng(0)
    model.build(rng, (1, widths[0]))
    objective = Objective(model, lf.SoftmaxCE())
    objective.build(rng, (1, widths[0]), (1,))
    objective.astype(np.float32)
    store = lf.ParameterStore(model.parameters())
    optimizer = lf.SGD(lr=LR, momentum=MOMENTUM)

    def step(x: np.ndarray, y: np.ndarray) -> None:
        assert np.isfinite(float(objective.forward(x, y)))
        objective.backward()
        optimizer.step(store)

    return step


def pytorch(widths: list[int]) -> Step:
    """torch.nn and torch.optim, eager, on the CPU."""
    import torch

    layers: list[torch.nn.Module] = []
    for m, n in pairwise(widths):
        layers += [torch.nn.Linear(m, n), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    loss_of = torch.nn.CrossEntropyLoss()

    def step(x: np.ndarray, y: np.ndarray) -> None:
        optimizer.zero_grad()
        loss = loss_of(model(torch.from_numpy(x)), torch.from_numpy(y))
        assert np.isfinite(loss.item())
        loss.backward()
        optimizer.step()

    return step


def scikit_learn(widths: list[int]) -> Step:
    """MLPClassifier, one `partial_fit` per batch."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        widths[1:-1],
        solver="sgd",
        learning_rate_init=LR,
        momentum=MOMENTUM,
        alpha=0.0,
        nesterovs_momentum=False,
        shuffle=False,
    )

    def step(x: np.ndarray, y: np.ndarray) -> None:
        model.batch_size = len(x)
        model.partial_fit(x, y, classes=np.arange(widths[-1]))

    return step


CONTESTANTS = {
    "hand-written NumPy": hand_written,
    "layerflow": layerflow,
    "PyTorch": pytorch,
    "scikit-learn": scikit_learn,
}


def contestants(widths: list[int]) -> dict[str, Step]:
    """Everyone who is installed."""
    steps = {}
    for name, make in CONTESTANTS.items():
        try:
            steps[name] = make(widths)
        except ImportError:
            print(f"  ({name} is not installed)")
    return steps


def measure_steps(widths: list[int], batch_size: int, rounds: int, batches: int = 20) -> dict[str, float]:
    """Return the median seconds of one step for each contestant."""
    rng = np.random.default_rng(1)
    data = [
        (rng.normal(size=(batch_size, widths[0])).astype(np.float32), rng.integers(0, widths[-1], batch_size))
        for _ in range(batches)
    ]
    steps = contestants(widths)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            for x, y in data:
                step(x, y)
            if round_number:  # the first round only warms up
                times[name].append((time.perf_counter() - started) / batches)
    return {name: statistics.median(values) for name, values in times.items()}


def measure_epochs(widths: list[int], batch_size: int, rounds: int, samples: int = 4096) -> dict[str, float]:
    """Return the median seconds of an epoch: through `Trainer.fit`, shuffling and records included, and by hand."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(samples, widths[0])).astype(np.float32), rng.integers(0, widths[-1], samples)
    times: dict[str, list[float]] = {"hand-written NumPy": [], "layerflow Trainer": []}
    by_hand = hand_written(widths)
    model = lf.Sequential(
        *(gate for width in widths[1:-1] for gate in (lf.Linear(width), lf.ReLU())), lf.Linear(widths[-1])
    )
    for _ in range(rounds):
        started = time.perf_counter()
        order = rng.permutation(samples)
        for start in range(0, samples, batch_size):
            rows = order[start : start + batch_size]
            by_hand(x[rows], y[rows])
        times["hand-written NumPy"].append(time.perf_counter() - started)
        history = lf.Trainer(
            model, lf.SoftmaxCE(), lf.SGD(lr=LR, momentum=MOMENTUM), epochs=2, batch_size=batch_size
        ).fit(x, y)
        times["layerflow Trainer"].append(history.last["seconds"])
    return {name: statistics.median(values) for name, values in times.items()}


def show(title: str, medians: dict[str, float]) -> None:
    """Print the medians and their ratios to the first."""
    print(title)
    base = medians["hand-written NumPy"]
    for name, seconds in medians.items():
        print(f"  {name:<20} {seconds * 1e6:>12,.1f} us   x {seconds / base:.2f}")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    for size in arguments.sizes:
        widths, batch_size = [int(width) for width in size.split("-")], SIZES[size]
        show(f"{size}, batch {batch_size}: one step", measure_steps(widths, batch_size, arguments.rounds))
        show(
            f"{size}, batch {batch_size}: one epoch of 4,096 samples",
            measure_epochs(widths, batch_size, max(3, arguments.rounds // 3)),
        )


if __name__ == "__main__":
    main()
