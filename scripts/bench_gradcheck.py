"""Checks gates and models that are right: does the gradient check raise a false alarm?

    python scripts/bench_gradcheck.py                       right gates of others, on one seed
    python scripts/bench_gradcheck.py --seeds 100           on 100 seeds, from --first-seed on
    python scripts/bench_gradcheck.py --scales 1            built-in gates, inputs times 1 to 1000, on one seed
    python scripts/bench_gradcheck.py --sensitivity         every gate with single elements wrong by 1e-5
    python scripts/bench_gradcheck.py --configs             configs/*.yaml before training, after 500 and 3000 steps

Exits with 1 if a right gate fails or cannot be measured, or if an error of 1e-5 passes in an element that counts as
measured.
"""

import argparse
import copy
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import main as layerflow
from layerflow.gates.examples import examples
from layerflow.gradcheck import check_gradients, jacobian

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "correct_gates"))
import attention_gates  # noqa: E402, F401
import image_gates  # noqa: E402, F401
import norm_gates  # noqa: E402, F401
import number_gates  # noqa: E402, F401
import sequence_gates  # noqa: E402, F401
from collection import CORRECT  # noqa: E402

SCALES = (1, 3, 10, 12, 16, 24, 36, 60, 100, 300, 1000)
UNSCALED = {"Exp", "Log", "Power", "ClippedNLL"}  # defined for, or finite on, inputs of a certain size only
WRONG_BY = 1e-5

Case = tuple[str, Any, tuple[Any, ...], int]


def custom(seeds: range) -> Iterable[Case]:
    """The right gates of others."""
    for seed in seeds:
        for title, make in CORRECT.items():
            gate, *inputs = make(np.random.default_rng(seed))
            yield title, gate, tuple(inputs), seed


def scaled(seeds: range) -> Iterable[Case]:
    """All built-in gates, with the first input multiplied by each scale."""
    for seed in seeds:
        for scale in SCALES:
            for name, cases in examples(np.random.default_rng(seed)).items():
                for gate, inputs in cases:
                    first = np.asarray(inputs[0])
                    if first.dtype.kind == "f" and name not in UNSCALED:
                        first = first * scale
                    yield f"{name} x {scale}", gate, (first, *inputs[1:]), seed


def alarms(cases: Iterable[Case]) -> int:
    """Check the cases, print every false alarm, and count them."""
    start, checks, found, elements, hidden = time.perf_counter(), 0, 0, 0, 0
    for title, gate, inputs, seed in cases:
        report = check_gradients(gate, *inputs, seed=seed)
        checks += 1
        elements += sum(tensor.checked for tensor in report.tensors)
        hidden += report.not_measurable
        if not report.ok:
            found += 1
            print(f"{title}, seed {seed}: {report}", flush=True)
    seconds = time.perf_counter() - start
    share = f"{hidden} of {elements} elements not measurable to 1e-5"
    print(f"{checks} checks: {found} false alarms; {share}; {seconds:.0f} s")
    return found


def wrong_by(gate: Any, tensor: str, element: int, position: int | None) -> Any:
    """A copy of the gate whose gradient is wrong in one element."""

    class Wrong(type(gate)):  # type: ignore[misc]
        def backward(self, *upstream: Any) -> Any:
            input_grads, param_grads = super().backward(*upstream)
            input_grads = [None if grad is None else np.array(grad, np.float64) for grad in input_grads]
            param_grads = {name: np.array(grad, np.float64) for name, grad in param_grads.items()}
            grad = param_grads[tensor] if position is None else input_grads[position]
            grad.flat[element] *= 1 + WRONG_BY
            return tuple(input_grads), param_grads

    Wrong.__name__ = type(gate).__name__
    wrong = copy.deepcopy(gate)
    wrong.__class__ = Wrong
    return wrong


def sensitivity(cases: Iterable[Case], per_tensor: int = 3) -> int:
    """Make single elements wrong, and count those that pass although they count as measured."""
    counts = dict.fromkeys(("caught", "not measurable", "zero or at a kink", "MISSED"), 0)
    for title, gate, inputs, seed in cases:
        right = check_gradients(gate, *inputs, seed=seed)
        input_names = [tensor.name for tensor in right.tensors if tensor.kind == "input"]
        real = [i for i, x in enumerate(inputs) if np.asarray(x).dtype.kind == "f"]
        for tensor in right.tensors:
            if tensor.verdict in ("no gradient", "empty"):
                continue
            position = real[input_names.index(tensor.name)] if tensor.kind == "input" else None
            for element in range(0, tensor.size, max(tensor.size // per_tensor, 1)):
                report = check_gradients(wrong_by(gate, tensor.name, element, position), *inputs, seed=seed)
                judged = next(each for each in report.tensors if each.name == tensor.name)
                if judged.wrong:
                    verdict = "caught"
                elif judged.not_measurable:
                    verdict = "not measurable"
                elif judged.kinks or not jacobian(gate, *inputs, wrt=tensor.name, seed=seed)[:, element].any():
                    verdict = "zero or at a kink"
                else:
                    verdict = "MISSED"
                    print(f"{title}, seed {seed}, element {element} of {judged}", flush=True)
                counts[verdict] += 1
    print(f"elements wrong by {WRONG_BY:g}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return counts["MISSED"]


def configurations() -> int:
    """Check all configurations of the project, and count those that fail."""
    found = 0
    for steps in (0, 500, 3000):
        for config in sorted((ROOT / "configs").glob("*.yaml")):
            code = layerflow(["gradcheck", str(config), "--after", str(steps)])
            found += code != 0
    print(f"configurations: {found} false alarms")
    return found


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="seeds for the right gates of others")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--scales", type=int, default=0, help="seeds for the built-in gates at all scales")
    parser.add_argument("--sensitivity", action="store_true", help="also make single elements wrong by 1e-5")
    parser.add_argument("--configs", action="store_true", help="also check configs/*.yaml")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    found = alarms(custom(seeds)) if seeds else 0
    found += alarms(scaled(range(arguments.scales))) if arguments.scales else 0
    if arguments.sensitivity:
        plain = examples(np.random.default_rng(0))
        built_in = ((name, gate, inputs, 0) for name, cases in plain.items() for gate, inputs in cases[:2])
        found += sensitivity([*built_in, *custom(range(1))])
    found += configurations() if arguments.configs else 0
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
