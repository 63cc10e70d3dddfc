"""Many trainings at a time: command lines of `layerflow train`, run as jobs, and their results read back."""

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from layerflow.cli.jobs import Ended, Job, Jobs
from layerflow.cli.options import split_words
from layerflow.cli.running import Result

INTERRUPTED = (130, 143)


def train_side_by_side(arguments: argparse.Namespace) -> list[Result]:
    """Do what `layerflow train` was asked to do, `arguments.jobs` configurations at a time."""
    files, overrides = split_words(arguments.configs)
    options = options_given(arguments.parser, arguments, without=("jobs", "json"))
    jobs = [Job(Path(file).stem, ["train", file, *overrides, *options, "--json"]) for file in files]
    return train_all(jobs, arguments.jobs, arguments.quiet)


def train_all(jobs: Sequence[Job], count: int, quiet: bool) -> list[Result]:
    """Run jobs that print their result as JSON, `count` at a time; those that were never started are missing."""
    ended = Jobs(jobs, count, quiet).run()
    skipped = [end.job.name for end in ended if end.code is None]
    if skipped:
        print(f"interrupted, skipped: {', '.join(skipped)}", file=sys.stderr)
    return [result_of(end) for end in ended if end.code is not None]


def result_of(ended: Ended) -> Result:
    """Return what a training printed; one that ended without a word was interrupted early, or has failed."""
    try:
        (result,) = json.loads(ended.output)
        folder = None if result["folder"] is None else Path(result["folder"])
        return Result(**{**result, "name": ended.job.name, "folder": folder})
    except (ValueError, KeyError, TypeError):
        if ended.code in INTERRUPTED:
            return Result(ended.job.name, "interrupted", exit_code=ended.code)
        how = f"signal {ended.code - 128}" if ended.code and ended.code > 128 else f"exit code {ended.code}"
        print(f"{ended.job.name}: ended with {how} before it had a result", file=sys.stderr)
        return Result(ended.job.name, "failed", exit_code=ended.code or 1)


def options_given(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, without: Collection[str]
) -> list[str]:
    """Return the options among `arguments`, as one would write them again."""
    words: list[str] = []
    for action in parser._actions:
        value: Any = getattr(arguments, action.dest, action.default)
        if not action.option_strings or action.dest in without or value == action.default:
            continue
        option = action.option_strings[-1]
        if action.nargs == 0:
            words.append(option)
        elif isinstance(value, list) and action.nargs is None:
            words += [word for item in value for word in (option, str(item))]
        else:
            words += [option, *map(str, value)] if isinstance(value, list) else [f"{option}={value}"]
    return words
