"""Times one training step and one epoch of layerflow, side by side with its peers, in one run and as ratios.

    python scripts/bench_step.py                     # all sizes; PyTorch and scikit-learn where they are installed
    python scripts/bench_step.py --sizes 64-32-10 --rounds 50 --threads 2
    python scripts/bench_step.py --break-even        # from which size of a step on two BLAS threads are faster than one

Every contestant trains the same ReLU network (softmax cross entropy, SGD with momentum 0.9) in float32 on the same
data. An epoch is one of `Trainer.fit`, shuffling, metrics and records included, set-up apart; by hand it is shuffling
and steps. The contestants take turns, round by round, so that other load hits all of them alike; shown is the median of
the rounds, and its ratio to NumPy by hand, which preallocates every array. With one BLAS thread processor time is
measured, which other processes disturb less and which is the wall time of a quiet machine.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import layerflow as lf

SIZES = {
    "2-16-16-2": 32,
    "64-32-10": 64,
    "64-128-10": 32,
    "784-256-10": 128,
    "784-512-256-10": 128,
    "3072-1024-512-10": 256,
}
LR, MOMENTUM = 0.01, 0.9
HAND = "NumPy by hand"
threads = 1  # of BLAS, and of PyTorch
clock = time.process_time  # `main` takes the wall clock where there are several threads
Act = Callable[[], object]
Data = tuple[np.ndarray, np.ndarray]


class ByHand:
    """What a person writes without a framework for this one network: every array is allocated once."""

    def __init__(self, widths: list[int], batch_size: int) -> None:
        rng = np.random.default_rng(0)
        sizes = [n * m + n for m, n in pairwise(widths)]
        self.values = np.zeros(sum(sizes), np.float32)
        self.grads, self.velocity, self.change = (np.zeros_like(self.values) for _ in range(3))
        self.layers = []
        offset = 0
        for m, n in pairwise(widths):
            cut = slice(offset, offset + n * m), slice(offset + n * m, offset + n * m + n)
            weight, bias = self.values[cut[0]].reshape(n, m), self.values[cut[1]]
            weight[...] = rng.normal(0, (2 / m) ** 0.5, (n, m))
            self.layers.append((weight, bias, self.grads[cut[0]].reshape(n, m), self.grads[cut[1]]))
            offset += n * m + n
        self.outputs = [np.empty((batch_size, n), np.float32) for n in widths[1:]]
        self.upstream = [np.empty((batch_size, n), np.float32) for n in widths[1:]]
        self.masks = [np.empty((batch_size, n), bool) for n in widths[1:]]
        self.rows = np.arange(batch_size)
        self.column = np.empty((batch_size, 1), np.float32)
        self.x, self.y = np.empty((batch_size, widths[0]), np.float32), np.empty(batch_size, np.int64)

    def step(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step of SGD with momentum."""
        a = x
        for index, (weight, bias, _, _) in enumerate(self.layers):
            z = self.outputs[index]
            np.matmul(a, weight.T, out=z)
            z += bias
            if index + 1 < len(self.layers):
                np.maximum(z, 0, out=z)
            a = z
        grad, column = self.upstream[-1], self.column
        a.max(axis=1, keepdims=True, out=column)
        np.subtract(a, column, out=grad)
        own = grad[self.rows, y]
        np.exp(grad, out=grad)
        grad.sum(axis=1, keepdims=True, out=column)
        loss = (np.log(column[:, 0]) - own).mean()
        assert np.isfinite(loss)
        grad /= column
        grad[self.rows, y] -= 1
        grad /= len(y)
        for index in reversed(range(len(self.layers))):
            weight, _, weight_grad, bias_grad = self.layers[index]
            np.matmul(grad.T, self.outputs[index - 1] if index else x, out=weight_grad)
            grad.sum(axis=0, out=bias_grad)
            if index:
                np.greater(self.outputs[index - 1], 0, out=self.masks[index - 1])
                np.matmul(grad, weight, out=self.upstream[index - 1])
                grad = self.upstream[index - 1]
                grad *= self.masks[index - 1]
        self.velocity *= MOMENTUM
        self.velocity += self.grads
        np.multiply(self.velocity, LR, out=self.change)
        self.values -= self.change

    def epoch(self, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
        """Shuffle and take a step for every whole batch."""
        order, size = rng.permutation(len(x)), len(self.rows)
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            self.step(x.take(rows, axis=0, out=self.x, mode="clip"), y.take(rows, out=self.y, mode="clip"))


def numpy_by_hand(widths: list[int], batches: list[Data], x: np.ndarray, y: np.ndarray) -> tuple[Act, Act]:
    """Return what takes a step for each batch, and what takes an epoch over x and y."""
    hand, rng = ByHand(widths, len(batches[0][0])), np.random.default_rng(0)
    return (lambda: [hand.step(*batch) for batch in batches]), (lambda: hand.epoch(rng, x, y))


def layerflow(widths: list[int], batches: list[Data], x: np.ndarray, y: np.ndarray) -> tuple[Act, Act]:
    """`Trainer.train_step`, and `Trainer.fit` with its default metrics."""
    model = lf.Sequential(
        *(gate for width in widths[1:-1] for gate in (lf.Linear(width), lf.ReLU())), lf.Linear(widths[-1])
    )
    times: list[float] = []

    class Watch(lf.Callback):
        def epoch_ended(self, state: Any, record: Any) -> None:
            times.append(clock())

    optimizer = lf.SGD(lr=LR, momentum=MOMENTUM)
    batch_size = len(batches[0][0])
    trainer = lf.Trainer(model, lf.SoftmaxCE(), optimizer, epochs=2, batch_size=batch_size, callbacks=[Watch()])
    trainer.prepare(x, y)

    def epoch() -> float:
        trainer.fit(x, y)
        return times[-1] - times[-2]  # the second epoch, without set-up

    def steps() -> None:
        with np.errstate(all="ignore"):
            for batch in batches:
                trainer.train_step(*batch)

    return steps, epoch


def pytorch(widths: list[int], batches: list[Data], x: np.ndarray, y: np.ndarray) -> tuple[Act, Act]:
    """torch.nn and torch.optim, eager, on the CPU."""
    import torch

    torch.set_num_threads(threads)
    layers: list[torch.nn.Module] = []
    for m, n in pairwise(widths):
        layers += [torch.nn.Linear(m, n), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    loss_of = torch.nn.CrossEntropyLoss()
    xs, ys, size = torch.from_numpy(x), torch.from_numpy(y), len(batches[0][0])
    tensors = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in batches]

    def step(xb: Any, yb: Any) -> None:
        optimizer.zero_grad()
        loss = loss_of(model(xb), yb)
        assert np.isfinite(loss.item())
        loss.backward()
        optimizer.step()

    def epoch() -> None:
        order = torch.randperm(len(xs))
        for start in range(0, len(xs), size):
            step(xs[order[start : start + size]], ys[order[start : start + size]])

    return (lambda: [step(*batch) for batch in tensors]), epoch


def scikit_learn(widths: list[int], batches: list[Data], x: np.ndarray, y: np.ndarray) -> tuple[Act, Act]:
    """MLPClassifier, by `partial_fit`: one batch, and all of the data in batches."""
    from sklearn.neural_network import MLPClassifier

    def model(shuffle: bool) -> Any:
        return MLPClassifier(
            widths[1:-1], solver="sgd", learning_rate_init=LR, momentum=MOMENTUM, alpha=0.0, shuffle=shuffle,
            nesterovs_momentum=False, batch_size=len(batches[0][0]),
        )  # fmt: skip

    one, whole, classes = model(False), model(True), np.arange(widths[-1])
    return (
        lambda: [one.partial_fit(xb, yb, classes=classes) for xb, yb in batches],
        lambda: whole.partial_fit(x, y, classes=classes),
    )


CONTESTANTS = {HAND: numpy_by_hand, "layerflow": layerflow, "PyTorch": pytorch, "scikit-learn": scikit_learn}


def contestants(size: str, samples: int) -> dict[str, tuple[Act, Act]]:
    """Everyone who is installed; the others are named."""
    widths, batch_size = [int(width) for width in size.split("-")], SIZES[size]
    rng = np.random.default_rng(1)
    samples -= samples % batch_size
    x, y = rng.normal(size=(samples, widths[0])).astype(np.float32), rng.integers(0, widths[-1], samples)
    batches = [
        (x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, min(samples, 20 * batch_size), batch_size)
    ]
    found = {}
    for name, make in CONTESTANTS.items():
        try:
            found[name] = make(widths, batches, x, y)
        except ImportError:
            print(f"  ({name} is not installed)")
    return found


def measure(
    acts: dict[str, Act], rounds: int, typical: Callable[[list[float]], float] = statistics.median
) -> dict[str, float]:
    """Return the typical seconds of each act; an act may return its own seconds."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for round_number in range(rounds + 1):
        for name, act in acts.items():
            started = clock()
            own = act()
            seconds = own if isinstance(own, float) else clock() - started
            if round_number:  # the first round only warms up
                times[name].append(seconds)
    return {name: typical(values) for name, values in times.items()}


def show(title: str, medians: dict[str, float], count: int = 1) -> None:
    """Print the medians and their ratios to the first."""
    print(title)
    for name, seconds in medians.items():
        print(f"  {name:<14} {seconds / count * 1e6:>12,.1f} us   x {seconds / medians[HAND]:.2f}", flush=True)


def break_even(rounds: int) -> None:
    """Print the shortest time of a step with two BLAS threads over that with one, by parameters times batch size."""
    for width in (16, 32, 64, 128, 256, 512, 1024):
        for batch_size in (32, 256):
            size = f"{width}-{width}-10"
            SIZES[size] = batch_size
            step = contestants(size, 20 * batch_size)["layerflow"][0]

            def limited(threads: int, step: Act = step) -> None:
                with threadpool_limits(threads, "blas"):
                    step()

            times = measure({str(threads): lambda t=threads: limited(t) for threads in (1, 2)}, rounds, min)  # type: ignore[misc]
            work = (width * width + 11 * width + 10) * batch_size
            print(f"{size:>14}, batch {batch_size:>3}: {work:>12,}   two threads / one: {times['2'] / times['1']:.2f}")


def main() -> None:
    """Measure what the command line asks for."""
    global clock, threads
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads (default: 1)")
    parser.add_argument("--break-even", action="store_true", help="compare one BLAS thread with two, for many sizes")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    threads = arguments.threads
    if arguments.break_even or arguments.threads > 1:
        clock = time.perf_counter
    if arguments.break_even:
        return break_even(arguments.rounds)
    with threadpool_limits(arguments.threads):
        print(f"{arguments.threads} BLAS thread(s), float32, median of {arguments.rounds} rounds")
        for size in arguments.sizes:
            acts = contestants(size, 4096)
            steps = min(20, 4096 // SIZES[size])
            title = f"{size}, batch {SIZES[size]}"
            show(f"{title}: one step", measure({name: act[0] for name, act in acts.items()}, arguments.rounds), steps)
            rounds = max(5, arguments.rounds // 3)
            show(f"{title}: one epoch", measure({name: act[1] for name, act in acts.items()}, rounds))
    return None


if __name__ == "__main__":
    main()
