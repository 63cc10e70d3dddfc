"""Measures the gradient check: are faulty gates found and correctly diagnosed, and do correct gates pass?

    python scripts/bench_diagnosis.py                   the table of faulty gates, half by half, on one seed
    python scripts/bench_diagnosis.py --seeds 200       and all built-in gates on 200 seeds
    python scripts/bench_diagnosis.py --kinks 100000    and that many elements close to kinks

Exits with 1 unless every fault is found, none is misnamed, at least 85 % of each half are named, and there is no false
alarm.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.gates import AbsoluteError, Huber, LeakyReLU, Max, Maximum, MulticlassSVM, ReLU
from layerflow.gates.examples import examples
from layerflow.gradcheck import Report, check_gradients

sys.path.insert(0, str(Path(__file__).parent / "faulty_gates"))
import behaviour  # noqa: F401
import composites  # noqa: F401
import elementwise  # noqa: F401
import layers  # noqa: F401
import losses  # noqa: F401
import windows_and_loops  # noqa: F401
from registry import FAULTY, Faulty

# The halves in the order in which they are registered: those that the diagnosis was written for, and those kept apart.
HALVES = {"written for": tuple(FAULTY)}
import kept_apart  # noqa: E402, F401

HALVES["kept apart"] = tuple(FAULTY[len(HALVES["written for"]) :])
import kept_apart_again  # noqa: E402, F401

HALVES["kept apart again"] = tuple(FAULTY[sum(map(len, HALVES.values())) :])
import kept_apart_last  # noqa: E402, F401

HALVES["kept apart last"] = tuple(FAULTY[sum(map(len, HALVES.values())) :])


def judge(faulty: Faulty, seed: int) -> tuple[str, str]:
    """Return "named", "unnamed", "misnamed" or "missed", and what was said."""
    gate, inputs = faulty.make(np.random.default_rng(seed))
    report = check_gradients(gate, *inputs, seed=seed)
    if report.ok:
        return "missed", ""
    stated = _stated(report)
    if not stated:
        return "unnamed", ""
    return ("named" if set(stated) <= faulty.causes else "misnamed"), ", ".join(stated)


def _stated(report: Report) -> list[str]:
    found = [diagnosis.cause for diagnosis in (*report.faults, *report.diagnoses)]
    return list(dict.fromkeys(found + (_stated(report.guilty[1]) if report.guilty else [])))


def bench_faulty(half: str, seeds: range) -> bool:
    """Print the table of one half of the faulty gates; whether the aims are reached."""
    counts = dict.fromkeys(("named", "unnamed", "misnamed", "missed"), 0)
    start = time.perf_counter()
    for faulty in HALVES[half]:
        results = [judge(faulty, seed) for seed in seeds]
        for verdict, _ in results:
            counts[verdict] += 1
        verdict, said = next((result for result in results if result[0] != "named"), results[0])
        print(f"{verdict:<9} {faulty.title:<62} {said}")
    total = sum(counts.values())
    print(
        f"\n{half}: {len(HALVES[half])} faulty gates, {total} runs: "
        + ", ".join(f"{count} {word} ({count / total:.1%})" for word, count in counts.items())
        + f", {time.perf_counter() - start:.0f} s\n"
    )
    return counts["missed"] == counts["misnamed"] == 0 and counts["named"] >= 0.85 * total


def bench_right(seeds: int) -> bool:
    """Check all built-in gates on many seeds and print every false alarm."""
    start, checks, alarms = time.perf_counter(), 0, 0
    for seed in range(seeds):
        for cases in examples(np.random.default_rng(seed)).values():
            for gate, inputs in cases:
                report = check_gradients(gate, *inputs, seed=seed)
                checks += 1
                if not report.ok:
                    alarms += 1
                    print(f"seed {seed}: {report}")
    print(
        f"{checks} checks of right gates on {seeds} seeds: {alarms} false alarms, {time.perf_counter() - start:.0f} s"
    )
    return alarms == 0


def near_kinks(rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Gates with inputs at 1e-14 to 1e-1 from their kinks, on both sides, and some exactly on them."""
    away = rng.choice([-1.0, 0.0, 1.0], 200, p=[0.45, 0.1, 0.45]) * 10.0 ** rng.uniform(-14, -1, 200)
    place = rng.normal(size=200) * rng.choice([0.0, 1e-3, 1.0, 100.0], 200)
    scores, labels = 3.0 * rng.normal(size=(10, 5)), rng.integers(0, 5, 10)
    edge = scores[np.arange(10), labels][:, None] - 1.0 + away[:50].reshape(10, 5)
    scores = np.where((rng.random((10, 5)) < 0.5) & (np.arange(5) != labels[:, None]), edge, scores)
    return [
        (ReLU(), away.reshape(10, 20)),
        (LeakyReLU(0.2), away.reshape(10, 20)),
        (Maximum(), place, place + away),
        (MulticlassSVM(), scores, labels),
        (AbsoluteError(), place[:50] + away[:50], place[:50]),
        (Huber(), place[:50] + 1.0 + away[:50], place[:50]),
        (Max(1), (place[:1] + away[:50]).reshape(10, 5)),
    ]


def bench_kinks(elements: int) -> bool:
    """Check elements close to kinks and print every false alarm."""
    rng, seen, alarms, start = np.random.default_rng(0), 0, 0, time.perf_counter()
    while seen < elements:
        for gate, *inputs in near_kinks(rng):
            report = check_gradients(gate, *inputs)
            seen += sum(tensor.checked for tensor in report.tensors)
            if any(tensor.wrong for tensor in report.tensors):
                alarms += 1
                print(report)
    print(f"{seen} elements close to kinks: {alarms} false alarms, {time.perf_counter() - start:.0f} s")
    return alarms == 0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fault-seeds", type=int, default=1, help="seeds on which the faulty gates are run")
    parser.add_argument("--half", action="append", choices=HALVES, help="only this half of the faulty gates")
    parser.add_argument("--seeds", type=int, default=0, help="seeds on which all built-in gates are checked")
    parser.add_argument("--kinks", type=int, default=0, help="elements close to kinks to check")
    arguments = parser.parse_args()
    reached = [bench_faulty(half, range(arguments.fault_seeds)) for half in arguments.half or HALVES]
    reached += [bench_right(arguments.seeds)] if arguments.seeds else []
    reached += [bench_kinks(arguments.kinks)] if arguments.kinks else []
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
