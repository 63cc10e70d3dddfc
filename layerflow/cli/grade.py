"""`layerflow grade`: grade a student's file."""

import argparse
import sys
from pathlib import Path
from typing import Any

from layerflow.cli import EXIT_CHECK_FAILED, add_command
from layerflow.course.exercises import find_exercise
from layerflow.course.grade_formats import FORMATS
from layerflow.course.grading import LEVELS, SECONDS, grade

EXAMPLES = """\
  layerflow grade conv2d.py --exercise conv2d
  layerflow grade conv2d.py --exercise conv2d --feedback verdict --seed 7
  layerflow grade conv2d.py --exercise conv2d --format gradescope > results.json
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        subparsers, common, "grade", "grade a student's file, in a process of its own; write nothing", EXAMPLES
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what was handed in")
    parser.add_argument("--exercise", required=True, metavar="NAME", help="the exercise that it solves")
    parser.add_argument("--format", choices=FORMATS, default="text", help="of what is printed")
    parser.add_argument("--feedback", choices=LEVELS, default="diagnosis", help="how much is said (default: diagnosis)")
    parser.add_argument("--seed", type=int, default=0, help="of the hidden cases")
    parser.add_argument("--timeout", type=float, default=SECONDS, metavar="SECONDS", help="end it after this time")
    parser.add_argument(
        "--fail-under", type=float, metavar="PERCENT", help="exit with 3 for fewer points than this, in percent"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Grade and print."""
    exercise = find_exercise(arguments.exercise)
    found = grade(arguments.file, exercise, arguments.seed, arguments.timeout, arguments.feedback)
    sys.stdout.write(FORMATS[arguments.format](found))
    wanted = arguments.fail_under
    return EXIT_CHECK_FAILED if wanted is not None and 100 * found.points < wanted * found.most else 0
