"""Throws mutated configurations, data files and model files at the command line, and names every law that is broken.

    python scripts/fuzz.py --configs 10000 --data 2000 --models 1000     the whole experiment
    python scripts/fuzz.py --configs 500 --start 12000                   other seeds: cases 12000 to 12499
    python scripts/fuzz.py --configs 1 --start 4711 --show               one case, its files and what was said
    python scripts/fuzz.py --configs 10000 --resume progress.jsonl       goes on where it was interrupted

A case is a pure function of its seed. Each runs inside a worker process with a limit of memory; a worker that dies or
hangs is a broken law like any other, and the next one goes on behind it. Exits with 1 if any law is broken.
"""

import argparse
import contextlib
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "fuzzing")]
sys.modules["matplotlib"] = None  # type: ignore[assignment]  # pictures are not the subject, and take long to import

from case import SECONDS, Case, run, write  # noqa: E402
from data_files import data_case  # noqa: E402
from model_files import model_case  # noqa: E402

from configs import config_case  # noqa: E402

KINDS: dict[str, Callable[[int], Case]] = {"configs": config_case, "data": data_case, "models": model_case}
MEMORY = 1 << 30
"""Bytes that a case may allocate beyond what the worker has when it starts."""


def worker(kind: str, start: int, stop: int) -> None:
    """Run cases and print one line of JSON about each."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        KINDS[kind](0)
        run(KINDS[kind](start), Path(scratch) / "case")  # everything is imported now
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
        for seed in range(start, stop):
            case = KINDS[kind](seed)
            outcome = run(case, Path(scratch) / "case")
            facts: dict[str, Any] = {"kind": kind, "seed": seed, "code": outcome.code, "case": case.what}
            facts |= {"seconds": outcome.seconds, "memory": outcome.memory, "broken": outcome.broken}
            facts["err"] = outcome.err[:2000]
            print(json.dumps(facts), flush=True)


def results(kind: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Yield what came of each case, from as many workers as it takes."""
    while start < stop:
        lines: queue.Queue[str] = queue.Queue()
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                [sys.executable, __file__, "--worker", kind, str(start), str(stop)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            threading.Thread(target=_collect, args=(process.stdout, lines), daemon=True).start()
            line, end = "", "ended without a word"
            while start < stop:
                try:
                    line = lines.get(timeout=60 * SECONDS)
                except queue.Empty:
                    process.kill()
                    end = f"says nothing for {60 * SECONDS} s"
                    break
                if not line:
                    break
                facts = json.loads(line)
                start = facts["seed"] + 1
                yield facts
            code = process.wait()
            errors.seek(0)
            said = errors.read()[-1500:]
        if start < stop:
            end = f"the process died with {code}" if code > 0 else end
            yield {
                "kind": kind,
                "seed": start,
                "case": "",
                "code": code,
                "seconds": 0,
                "memory": 0,
                "broken": [end],
                "err": said,
            }
            start += 1


def _collect(stream: Any, lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def show(kind: str, seed: int) -> int:
    """Print a case whole, leave its files in a folder, and return 1 if it breaks a law."""
    case = KINDS[kind](seed)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    outcome = run(case, folder / "case")
    write(case, folder / "files")
    print(f"{kind} {seed}: {case.what}\nfiles in {folder / 'files'}\n$ layerflow {' '.join(map(repr, case.words))}")
    print(
        f"{outcome.out}{outcome.err}exit code {outcome.code}, {outcome.seconds:.2f} s; "
        f"broken: {outcome.broken or 'nothing'}"
    )
    return bool(outcome.broken)


def main() -> int:
    """Run the experiment and print the table of its outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="N", help=f"how many mutated {kind}")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep the outcomes in FILE, and skip those that are in it"
    )
    parser.add_argument("--show", action="store_true", help="show the one case at --start")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker[0], *map(int, arguments.worker[1:]))
        return 0
    wanted = {kind: getattr(arguments, kind) for kind in KINDS if getattr(arguments, kind)}
    if arguments.show:
        return max(show(kind, arguments.start) for kind in wanted)
    done: list[dict[str, Any]] = []
    if arguments.resume and arguments.resume.exists():
        done = [json.loads(line) for line in arguments.resume.read_text().splitlines()]
    bad = False
    with arguments.resume.open("a") if arguments.resume else contextlib.nullcontext() as progress:
        for kind, count in wanted.items():
            found = [facts for facts in done if facts["kind"] == kind]
            start = max([arguments.start, *(facts["seed"] + 1 for facts in found)])
            for facts in results(kind, start, arguments.start + count):
                found.append(facts)
                if progress:
                    print(json.dumps(facts), file=progress, flush=True)
                if facts["broken"]:
                    bad = True
                    print(
                        f"{kind} {facts['seed']}: {'; '.join(facts['broken'])}\n    {facts['case']}\n"
                        f"    {facts['err'][:600].strip()}"
                    )
            print(as_text(kind, found))
    return int(bad)


def as_text(kind: str, found: list[dict[str, Any]]) -> str:
    """Return the table of one kind's outcomes."""
    codes = Counter(facts["code"] for facts in found)
    broken = sum(bool(facts["broken"]) for facts in found)
    by_code = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
    slowest, most = (max(facts[name] for facts in found) for name in ("seconds", "memory"))
    return (
        f"{kind}: {len(found)} cases, {broken} break a law; exit codes {by_code}; "
        f"slowest {slowest:.2f} s, most memory of one case {most:.0f} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
