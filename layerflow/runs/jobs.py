"""Several runs of layerflow at a time, each in a process of its own, their progress shown by this one alone."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from layerflow.training.progress import MESSAGES

# Read by BLAS when NumPy is imported: processes that share the cores must not each start a thread per core.
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
# A child imports from exactly where this process does, whether that was started as a script or as a module.
START = """
import json, sys
try:
    sys.path[:] = json.loads(sys.argv.pop(1))
    from layerflow.cli.child import main
    main()
except KeyboardInterrupt:
    sys.exit(130)
"""


@dataclass(frozen=True)
class Job:
    """One run: what it is called, and its command line after `layerflow`."""

    name: str
    arguments: list[str]


@dataclass
class Ended:
    """How a job ended: its exit code as a shell gives it (`None`: it was never started), and what it printed."""

    job: Job
    code: int | None = None
    output: str = ""


@dataclass
class _Child:
    number: int
    place: int
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)


class Jobs:
    """Runs jobs, `count` at a time; one that fails doesn't keep the others from running.

    SIGINT and SIGTERM are handed on to every child, which then ends as a single run does; no further job is started.
    Should this process be killed, the children see their stdin close, and stop as on SIGTERM.
    """

    def __init__(self, jobs: Sequence[Job], count: int, quiet: bool = False) -> None:
        self.waiting = list(enumerate(jobs))
        self.ended = [Ended(job) for job in jobs]
        self.quiet = quiet
        self.free = list(range(count))
        self.children: dict[int, _Child] = {}
        self.news: queue.SimpleQueue[tuple[_Child, str | None] | int] = queue.SimpleQueue()
        self.stopping = False
        self.display: Any = _Bars(len(jobs)) if sys.stderr.isatty() and not quiet else _Lines(len(jobs))

    def run(self) -> list[Ended]:
        """Run all the jobs and return how each of them ended, in their order."""
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
        return self.ended

    def _start(self) -> None:
        number, job = self.waiting.pop(0)
        place = self.free.pop(0)
        environment = os.environ | ONE_THREAD | ({} if self.quiet else {MESSAGES: "json"})
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, json.dumps(sys.path), *job.arguments],
            env=environment, text=True, errors="replace", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        child = self.children[number] = _Child(number, place, process)
        self.display.started(place, job.name)
        assert process.stdout and process.stderr
        threading.Thread(target=self._read, args=(child, process.stdout, process.stderr), daemon=True).start()

    def _read(self, child: _Child, stdout: IO[str], stderr: IO[str]) -> None:
        """Pass on what a child says, until it has ended; runs in a thread."""
        collector = threading.Thread(target=lambda: child.output.append(stdout.read()), daemon=True)
        collector.start()
        for line in stderr:
            self.news.put((child, line.rstrip("\n")))
        collector.join()
        child.process.wait()
        self.news.put((child, None))

    def _listen(self) -> None:
        """Wait for a line of a child, for its end, or for a signal."""
        news = self.news.get()
        if isinstance(news, int):
            self.stopping = True
            for child in self.children.values():
                child.process.send_signal(news)
            return
        child, line = news
        name = self.ended[child.number].job.name
        if line is None:
            self._finish(child)
        elif line.startswith(MESSAGES):
            self.display.progress(child.place, name, json.loads(line.removeprefix(MESSAGES)))
        elif line:
            self.display.message(line if line.startswith(f"{name}: ") else f"{name}: {line}")

    def _finish(self, child: _Child) -> None:
        process, ended = child.process, self.ended[child.number]
        ended.code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        ended.output = "".join(child.output)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe
            pipe.close()
        del self.children[child.number]
        self.free.append(child.place)
        self.free.sort()
        self.display.ended(child.place)

    @contextmanager
    def _signals_handed_on(self) -> Iterator[None]:
        """Queue the signals that arrive, so that none comes between the start of a child and its being known."""
        previous = {
            number: signal.signal(number, lambda number, frame: self.news.put(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class _Bars:
    """One bar per place, and above them one that counts the runs when there are more runs than places."""

    def __init__(self, total: int) -> None:
        from tqdm import tqdm

        self.tqdm = tqdm
        self.runs = tqdm(
            total=total, desc="runs", unit="run", file=sys.stderr, dynamic_ncols=True, leave=False, position=0
        )
        self.bars: dict[int, Any] = {}

    def started(self, place: int, name: str) -> None:
        self.bars[place] = self.tqdm(
            total=1, desc=name, unit="step", file=sys.stderr, dynamic_ncols=True, leave=False, position=place + 1
        )

    def progress(self, place: int, name: str, news: dict[str, Any]) -> None:
        bar = self.bars[place]
        if bar.total != news["total"]:
            bar.reset(news["total"])
            bar.initial = news["done"]
        if news["text"]:
            bar.set_postfix_str(f"epoch {news['epoch']}/{news['epochs']} {news['text']}", refresh=False)
        bar.update(news["done"] - bar.n)

    def message(self, text: str) -> None:
        self.tqdm.write(text, file=sys.stderr)

    def ended(self, place: int) -> None:
        self.bars.pop(place).close()
        self.runs.update()

    def close(self) -> None:
        for bar in [*self.bars.values(), self.runs]:
            bar.close()


class _Lines:
    """Plain lines, about ten per run, or one when there are more than ten runs."""

    def __init__(self, total: int) -> None:
        self.are_few = total <= 10

    def started(self, place: int, name: str) -> None:
        """Nothing to show yet."""

    def progress(self, place: int, name: str, news: dict[str, Any]) -> None:
        if news["line"] and (self.are_few or news["done"] == news["total"]):
            self.message(f"{name}: epoch {news['epoch']}/{news['epochs']} {news['text']}")

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def ended(self, place: int) -> None:
        """The table at the end tells it."""

    def close(self) -> None:
        """Nothing is open."""
