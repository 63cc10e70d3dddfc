"""Several runs at a time, each in a process of its own; this process shows the progress of all."""

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from tqdm import tqdm

from layerflow.runs.run import Result
from layerflow.training.callbacks import MESSAGES

# Read by BLAS when NumPy is imported: processes that share the cores must not each start one thread per core.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "BLIS", "OMP")}
ONE_THREAD["VECLIB_MAXIMUM_THREADS"] = "1"
INTERRUPTED = (130, 143)
# A child imports from exactly where this process does, whether that was started as a script or as a module.
START = """
import json, sys
try:
    sys.path[:] = json.loads(sys.argv.pop(1))
    from layerflow.runs.jobs import run_child
    run_child()
except KeyboardInterrupt:
    sys.exit(130)
"""


@dataclass(frozen=True)
class Job:
    """One run: its name, and the function that carries it out, defined at the top of a module, with its arguments."""

    name: str
    function: Callable[..., Result]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Child:
    number: int
    place: int
    process: subprocess.Popen[bytes]
    output: list[bytes] = field(default_factory=list)


def train_all(jobs: Sequence[Job], count: int, quiet: bool = False) -> list[Result]:
    """Run jobs, `count` at a time, and return their results in order; those that were never started are missing."""
    results = Jobs(jobs, count, quiet).run()
    if skipped := [job.name for job, result in zip(jobs, results, strict=True) if result is None]:
        print(f"interrupted, skipped: {', '.join(skipped)}", file=sys.stderr)
    return [result for result in results if result]


class Jobs:
    """Runs jobs, `count` at a time; a failing one does not stop the others.

    SIGINT and SIGTERM are passed on to every child, which then stops like a single run; no further job is started.
    If this process is killed, the children see their stdin close and stop as on SIGTERM.
    """

    def __init__(self, jobs: Sequence[Job], count: int, quiet: bool = False) -> None:
        self.jobs = jobs
        self.waiting = list(enumerate(jobs))
        self.results: list[Result | None] = [None] * len(jobs)
        self.quiet = quiet
        self.free = list(range(count))
        self.children: dict[int, _Child] = {}
        self.news: queue.SimpleQueue[tuple[_Child, str | None] | int] = queue.SimpleQueue()
        self.stopping = False
        self.display = _Display(len(jobs), has_bars=sys.stderr.isatty() and not quiet)

    def run(self) -> list[Result | None]:
        """Run all jobs and return the result of each, None if it was never started."""
        with self._signals_handed_on():
            try:
                while self.children or (self.waiting and not self.stopping):
                    while self.free and self.waiting and not self.stopping:
                        self._start()
                    if self.children:
                        self._listen()
            finally:
                for child in self.children.values():
                    child.process.kill()
                self.display.close()
        return self.results

    def _start(self) -> None:
        number, job = self.waiting.pop(0)
        place = self.free.pop(0)
        environment = os.environ | ONE_THREAD | ({} if self.quiet else {MESSAGES: "json"})
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, json.dumps(sys.path), *sys.argv],
            env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin
        with suppress(BrokenPipeError):  # it ended already, which its exit code says
            process.stdin.write(pickle.dumps((job.function, dict(job.arguments))))
            process.stdin.flush()
        child = self.children[number] = _Child(number, place, process)
        self.display.started(place, job.name)
        assert process.stdout and process.stderr
        threading.Thread(target=self._read, args=(child, process.stdout, process.stderr), daemon=True).start()

    def _read(self, child: _Child, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        """Pass on what a child prints until it ends; runs in a thread."""
        collector = threading.Thread(target=lambda: child.output.append(stdout.read()), daemon=True)
        collector.start()
        for line in stderr:
            self.news.put((child, line.decode(errors="replace").rstrip("\n")))
        collector.join()
        child.process.wait()
        self.news.put((child, None))

    def _listen(self) -> None:
        """Wait for a line of a child, for its end, or for a signal."""
        news = self.news.get()
        if isinstance(news, int):
            self.stopping = True
            for child in self.children.values():
                child.process.terminate() if os.name == "nt" else child.process.send_signal(news)
            return
        child, line = news
        name = self.jobs[child.number].name
        if line is None:
            self._finish(child)
        elif line.startswith(MESSAGES):
            self.display.progress(child.place, name, json.loads(line.removeprefix(MESSAGES)))
        elif line:
            self.display.message(line if line.startswith(f"{name}: ") else f"{name}: {line}")

    def _finish(self, child: _Child) -> None:
        process = child.process
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        self.results[child.number] = result_of(self.jobs[child.number].name, code, b"".join(child.output))
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        del self.children[child.number]
        self.free.append(child.place)
        self.free.sort()
        self.display.ended(child.place)

    @contextmanager
    def _signals_handed_on(self) -> Iterator[None]:
        """Queue the signals, so that none arrives between the start of a child and its registration."""
        previous = {
            number: signal.signal(number, lambda number, frame: self.news.put(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def result_of(name: str, code: int, output: bytes) -> Result:
    """Return the result that a child wrote; one that wrote none was interrupted early, or has crashed."""
    with suppress(pickle.UnpicklingError, EOFError):
        result: Result = pickle.loads(output)
        result.name = name
        return result
    if code in INTERRUPTED:
        return Result(name, "interrupted", exit_code=code)
    how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
    print(f"{name}: ended with {how} before it had a result", file=sys.stderr)
    return Result(name, "failed", exit_code=code or 1)


def run_child() -> None:
    """Carry out one job in a process of its own: it comes by stdin, its result goes to stdout, all prints to stderr."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.argv = sys.argv[1:] if sys.argv[0] == "-c" else sys.argv
    function, arguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    result: Result = function(**arguments)
    with suppress(BrokenPipeError), results:
        pickle.dump(result, results)
    sys.exit(result.exit_code)


def _stop_without_parent() -> None:
    """Wait for the end of stdin: a pipe that the parent keeps open as long as it lives."""
    os.read(0, 1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # nobody reads them any more, and a broken pipe must not end the run
        os.dup2(nowhere, stream)
    os.kill(os.getpid(), signal.SIGTERM)


class _Display:
    """On a terminal a bar per place, and above them one that counts the runs.

    Elsewhere there are plain lines: about ten per run, or one if there are more than ten runs.
    """

    def __init__(self, total: int, has_bars: bool) -> None:
        self.has_bars, self.are_few = has_bars, total <= 10
        self.bars: dict[int, tqdm[Any]] = {}
        self.runs = self._bar("runs", "run", total, 0)

    def _bar(self, name: str, unit: str, total: int, position: int) -> "tqdm[Any]":
        return tqdm(
            total=total, desc=name, unit=unit, position=position, file=sys.stderr, dynamic_ncols=True, leave=False,
            disable=not self.has_bars,
        )  # fmt: skip

    def started(self, place: int, name: str) -> None:
        self.bars[place] = self._bar(name, "step", 1, place + 1)

    def progress(self, place: int, name: str, news: dict[str, Any]) -> None:
        text = f"epoch {news['epoch']}/{news['epochs']} {news['text']}"
        if not self.has_bars:
            if news["line"] and (self.are_few or news["done"] == news["total"]):
                self.message(f"{name}: {text}")
            return
        bar = self.bars[place]
        if bar.total != news["total"]:
            bar.reset(news["total"])
            bar.initial = news["done"]
        if news["text"]:
            bar.set_postfix_str(text, refresh=False)
        bar.update(news["done"] - bar.n)

    def message(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def ended(self, place: int) -> None:
        self.bars.pop(place).close()
        self.runs.update()

    def close(self) -> None:
        for bar in [*self.bars.values(), self.runs]:
            bar.close()
