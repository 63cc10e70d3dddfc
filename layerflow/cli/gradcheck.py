"""`layerflow gradcheck`: compare every gradient with differences, for built-in gates, your own, and whole models."""

import argparse
import ctypes
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import add_command, add_import_option, positive, split_words
from layerflow.cli.output import as_table
from layerflow.engine.choice import ENGINES
from layerflow.errors import ConfigError, GateError, did_you_mean
from layerflow.gate import Gate
from layerflow.gates import GATES
from layerflow.gates.examples import examples
from layerflow.gradcheck import Report, check_gradients
from layerflow.gradcheck.blame import guilty_line
from layerflow.gradcheck.entry import SAMPLES
from layerflow.gradcheck.recorded import same_result_when_recorded

EXAMPLES = """\
  layerflow gradcheck                                   all built-in gates
  layerflow gradcheck Linear ReLU
  layerflow gradcheck my_layers.py                      your gates, on what example() returns or on random input
  layerflow gradcheck my_layers.py --shape 5,4          your gates, on random input of this shape
  layerflow gradcheck my_loss.py --shape 5,4 --shape 5:4    scores for 5 samples, and labels 0 to 3
  layerflow gradcheck my_relu.py --against ReLU         must also compute what ReLU computes
  layerflow gradcheck configs/digits_mlp.yaml --after 50
"""

HOW_TO_EXAMPLE = """\
Write, in the gate:
    @classmethod
    def example(cls):
        return cls(...), np.random.default_rng(0).normal(size=(5, 4))     # the gate, then its inputs
or, for a gate that is made without arguments, give the shape of each input:
    layerflow gradcheck {file} --shape 5,4          real numbers
    layerflow gradcheck {file} --shape 5,4 --shape 5:3    and labels 0, 1, 2 for 5 samples"""

# Inputs that are tried, in this order, for a gate without example(): shapes, and the number of classes for labels.
GUESSES: dict[int, list[list[tuple[tuple[int, ...], int]]]] = {
    1: [[((5, 4), 0)], [((2, 3, 4), 0)], [((2, 3, 6, 6), 0)], [((5,), 0)], [((3, 4), 5)]],
    2: [[((5, 4), 0), ((5,), 4)], [((5, 4), 0), ((5, 4), 0)], [((5, 4), 0), ((5, 4), 2)], [((5, 4), 0), ((4, 3), 0)]],
    3: [[((5, 4), 0)] * 3, [((2, 3, 4), 0)] * 3],
}

NOT_CHECKED, FAILED = 2, 3


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, common, "gradcheck", "compare every gradient with differences, and name the mistake", EXAMPLES
    )
    parser.add_argument(
        "targets", nargs="*", metavar="GATE|FILE.py|CONFIG",
        help="built-in gates, a Python file with your own, or a configuration and settings; default: all built-in",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, help="of upstream gradients, parameters and samples (default: 0)"
    )
    parser.add_argument(
        "--samples", type=positive, metavar="N",
        help=f"elements compared one by one; more are sampled (default: {SAMPLES}, fewer for large models)",
    )  # fmt: skip
    parser.add_argument(
        "--shape",
        type=_shape,
        action="append",
        default=[],
        metavar="5,4",
        help="shape of an input of your gates, once per input; 5:3 for integer labels 0 to 2 of 5 samples",
    )
    parser.add_argument(
        "--after", type=_count, default=0, metavar="N", help="train a configuration's model for N steps first"
    )
    parser.add_argument(
        "--against", metavar="GATE", help="a built-in gate whose outputs and gradients yours must also have"
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="give up on a gate after this time (default: never)",
    )
    parser.add_argument("--engine", choices=ENGINES[:2], help="native: the gate as machine code must give the same")
    add_import_option(parser)
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    parser.set_defaults(run=run)


@dataclass
class Row:
    """One line of the table: a gate on all its cases, or a model.

    Attributes:
        broken: the message of a gate that breaks the contract or raises, so that nothing could be compared.
        is_checked: False for a gate of which nobody said how to make it and its inputs; `broken` says how to.
    """

    name: str
    reports: list[Report] = field(default_factory=list)
    broken: str = ""
    is_checked: bool = True
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything is right."""
        return not self.broken and all(report.ok for report in self.reports)

    @property
    def worst(self) -> Report | None:
        """A report that failed, else the one with the largest relative error."""
        return max(self.reports, key=lambda report: (not report.ok, report.relative_error), default=None)


def run(arguments: argparse.Namespace) -> int:
    """Check all targets; the exit code is 3 if a check fails, else 2 if a gate could not be checked."""
    names, files, configs, overrides = _sorted_targets(arguments.targets)
    if overrides and not configs:
        raise ConfigError(f"settings ({', '.join(overrides)}) go with a configuration; none is given")
    rows = [row for file in files for row in _own_gates(file, arguments)]
    rows += _built_in(names if names or files or configs else list(GATES), arguments)
    rows += [_model(config, overrides, arguments) for config in configs]
    if arguments.json:
        print(json.dumps([_as_dict(row) for row in rows], indent=2))
    else:
        print(_as_text(rows))
    if all(row.ok for row in rows):
        return 0
    return FAILED if any(row.is_checked and not row.ok for row in rows) else NOT_CHECKED


# What is checked -------------------------------------------------------------------------------------------------


def _sorted_targets(targets: list[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    words, overrides = split_words(targets) if targets else ([], [])
    files = [word for word in words if word.endswith(".py")]
    configs = [word for word in words if Path(word).suffix in (".yaml", ".yml")]
    names = [word for word in words if word not in files and word not in configs]
    for name in names:
        if name not in GATES:
            hint = did_you_mean(name, GATES) or "; `layerflow gates` lists them"
            raise ConfigError(
                f"no built-in gate is called {name!r}{hint} (your own: give their FILE.py; a model: its CONFIG.yaml)"
            )
    return names, files, configs, overrides


def _built_in(names: list[str], arguments: argparse.Namespace) -> list[Row]:
    cases = examples(np.random.default_rng(arguments.seed))
    return [_checked(name, lambda name=name: cases[name], arguments) for name in names]  # type: ignore[misc]


def _own_gates(file: str, arguments: argparse.Namespace) -> list[Row]:
    from layerflow.config.registry import import_code

    for name in arguments.imports:
        import_code(name)
    module = import_code(file)
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Gate) and item.__module__ == module.__name__
    ]
    gates = [cls for cls in found if hasattr(cls, "example") or cls.bare_backward is not Gate.bare_backward]
    if not gates:
        raise ConfigError(f"{file} has no gate: no class in it is a subclass of layerflow.Gate with a backward")
    return [_own_gate(cls, file, arguments) for cls in gates]


def _own_gate(cls: type[Gate], file: str, arguments: argparse.Namespace) -> Row:
    """The row of a gate, on its `example()`, on random input of the given shapes, or on the first that it accepts."""
    how = HOW_TO_EXAMPLE.format(file=file)
    if hasattr(cls, "example"):
        return _checked(cls.__name__, lambda: _examples_of(cls, file, how), arguments)
    try:
        gate = cls()
    except Exception as error:
        why = f"{file}: how should {cls.__name__} be checked? It has no example(), and {cls.__name__}() raises {error}."
        return Row(cls.__name__, broken=f"{why}\n{how}", is_checked=False)
    if arguments.shape:
        inputs = _random(arguments.shape, arguments.seed)
        return _checked(cls.__name__, lambda: [(gate, inputs)], arguments)
    rows = []
    for guess in GUESSES.get(_input_count(gate), []):
        inputs = _random(guess, arguments.seed)
        rows.append(_checked(cls.__name__, lambda inputs=inputs: [(gate, inputs)], arguments))  # type: ignore[misc]
        if rows[-1].reports or not rows[-1].is_checked:
            return rows[-1]
    if failed := [row for row in rows if "forward raised" not in row.broken]:
        return failed[0]
    why = f"{file}: how should {cls.__name__} be checked? It has no example(), and raises on every input tried:"
    return Row(cls.__name__, broken="\n".join([why, *(row.broken for row in rows[:1]), how]), is_checked=False)


def _input_count(gate: Gate) -> int:
    """The number of inputs without a default that forward takes."""
    parameters = inspect.signature(gate.forward).parameters.values()
    return sum(item.kind is item.POSITIONAL_OR_KEYWORD and item.default is item.empty for item in parameters)


def _random(shapes: list[tuple[tuple[int, ...], int]], seed: int) -> tuple[Any, ...]:
    """Real numbers of each shape, or integers below the number of classes."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, classes, shape) if classes else rng.normal(size=shape) for shape, classes in shapes)


def _examples_of(cls: Any, file: str, how: str) -> list[tuple[Gate, tuple[Any, ...]]]:
    """What `example()` returns: a gate and its inputs, or a list of such."""
    try:
        given = cls.example()
    except Exception as error:
        raise GateError(
            f"{file}: {cls.__name__}.example() raised {type(error).__name__}: {error}{guilty_line(error)}\n{how}"
        ) from error
    cases = given if isinstance(given, list) else [given]
    if not all(isinstance(case, tuple) and case and isinstance(case[0], Gate) for case in cases):
        raise GateError(f"{file}: {cls.__name__}.example() returned {given!r}, expected the gate and its inputs\n{how}")
    return [(case[0], case[1] if len(case) == 2 and isinstance(case[1], tuple) else case[1:]) for case in cases]


def _model(file: str, overrides: list[str], arguments: argparse.Namespace) -> Row:
    """The row of a configuration: model, loss and regularizers on one real batch, after some steps of training."""
    from layerflow.config import Registry, load_config
    from layerflow.config.experiment import Experiment

    experiment = Experiment(load_config(file, overrides, Registry.builtin(arguments.imports)), engine="numpy")
    experiment.prepare()
    trainer = experiment.trainer
    for x, y in _batches(trainer.state.batches, arguments.after):
        trainer.train_step(x, y)
    x, y = next(trainer.state.batches.epoch(0))
    if experiment.parts.preprocessing.vocabulary is not None:
        x = x.astype(np.int64)  # tokens are no real numbers
    after = f" after {arguments.after} steps" if arguments.after else ""
    row = _checked(f"{experiment.config.name}{after}", lambda: [(trainer.state.objective, (x, y))], arguments)
    for report in row.reports:
        report.gate = f"{file}{after}: {type(experiment.loss).__name__} on one batch of {len(x)}"
    return row


def _batches(batches: Any, steps: int) -> Iterator[tuple[Any, Any]]:
    """The first batches of training, epoch after epoch."""
    for step in range(steps):
        epoch, position = divmod(step, len(batches))
        yield next(batches.epoch(epoch, position))


def _checked(name: str, cases: Callable[[], Any], arguments: argparse.Namespace) -> Row:
    row, start = Row(name), time.perf_counter()
    options = {"seed": arguments.seed, "samples": arguments.samples, "against": arguments.against}
    try:
        with _time_limit(arguments.timeout):
            for gate, inputs in cases():
                row.reports.append(check_gradients(gate, *inputs, **options))
                if arguments.engine == "native":
                    same_result_when_recorded(gate, inputs, is_native=True)
    except AssertionError as error:
        row.broken = f"{name}, engine native: {error}"
    except TimeoutError:
        row.broken = f"{name}: stopped after {arguments.timeout} s (--timeout)"
        row.is_checked = False
    except GateError as error:
        row.broken = "\n".join([str(error), *getattr(error, "__notes__", ())])
    row.seconds = time.perf_counter() - start
    return row


@contextmanager
def _time_limit(seconds: int | None) -> Iterator[None]:
    """Raise `TimeoutError` when the block takes longer; Python code is interrupted on every platform."""
    if seconds is None:
        yield
        return
    thread, lock, is_over = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:  # not by a signal, which a process in the background may ignore
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TooLate))

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                is_over = True
            timer.cancel()
    except _TooLate:
        raise TimeoutError from None


class _TooLate(BaseException):
    """Raised in code that takes too long, which must not take it for an error of its own."""


# How it is shown -------------------------------------------------------------------------------------------------


def _as_text(rows: list[Row]) -> str:
    """The table, and below it the reports of what failed."""
    cells = [
        (
            "gate",
            "inputs and parameters",
            "cases",
            "worst relative error",
            "kinks",
            "not measurable",
            "seconds",
            "verdict",
        )
    ]
    for row in rows:
        worst = row.worst
        cells.append((
            row.name,
            _tensors(worst) if worst is not None else "",
            str(len(row.reports)),
            f"{worst.relative_error:.1e}" if worst is not None else "",
            str(sum(report.kinks for report in row.reports)),
            str(sum(report.not_measurable for report in row.reports)),
            f"{row.seconds:.2f}",
            "ok" if row.ok else "FAILED" if row.is_checked else "not checked",
        ))  # fmt: skip
    lines = as_table(cells, numbers=False).splitlines()
    failed = [row for row in rows if not row.ok]
    shown = [lines[0], *(_painted(line, row.ok) for line, row in zip(lines[1:], rows, strict=True))]
    for row in failed:
        shown += ["", *([row.broken] if row.broken else []), *(str(report) for report in row.reports if not report.ok)]
    seconds = sum(row.seconds for row in rows)
    right = (
        f"{len(rows) - len(failed)} of {len(rows)} right"
        if failed
        else f"all {len(rows)} right"
        if len(rows) > 1
        else "right"
    )
    return "\n".join([*shown, "", f"{right}, {seconds:.1f} s"])


def _tensors(report: Report) -> str:
    names = [f"{tensor.name} {tensor.shape}" for tensor in report.tensors]
    return ", ".join(names if len(names) <= 4 else [*names[:3], f"... ({len(names)} in all)"])


def _painted(line: str, is_right: bool) -> str:
    """Green or red on a terminal, plain anywhere else."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return line
    return f"\033[{32 if is_right else 31}m{line}\033[0m"


def _as_dict(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "ok": row.ok,
        "seconds": row.seconds,
        "error": row.broken or None,
        "reports": [report.as_dict() for report in row.reports],
    }


def _shape(text: str) -> tuple[tuple[int, ...], int]:
    """A shape, and the number of classes where integer labels are asked for."""
    written, _, classes = text.partition(":")
    sizes = [size for size in written.replace("x", ",").strip("()").split(",") if size.strip()]
    if not all(size.strip().isdigit() for size in (*sizes, classes or "1")) or classes == "0":
        raise argparse.ArgumentTypeError(
            f"a shape is written as integers with commas, 5,4 (or 5:3 for labels 0 to 2), not {text!r}"
        )
    return tuple(int(size) for size in sizes), int(classes or 0)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be an integer of at least 0, not {text!r}")
    return int(text)
