"""`layerflow exercise`: list the exercises, or write a hand-out."""

import argparse
import io
import zipfile
from pathlib import Path
from typing import Any

from layerflow.cli import add_command
from layerflow.cli.output import add_output_options, as_table, check_output, write_output
from layerflow.course.exercises import Exercise, exercises, find_exercise
from layerflow.errors import ConfigError
from layerflow.runs.files import write_atomically

EXAMPLES = """\
  layerflow exercise                              all exercises, one a line
  layerflow exercise conv2d -o conv2d.py          a hand-out
  layerflow exercise conv2d --hint 1              a hint; 2 and 3 say more
  layerflow exercise conv2d --package gradescope -o conv2d.zip
  layerflow exercise conv2d --package github -o grade.yaml
"""
SETUP = "#!/usr/bin/env bash\nset -e\napt-get update && apt-get install -y python3 python3-venv\n" + (
    "python3 -m venv /autograder/venv\n/autograder/venv/bin/pip install {requirement}\n"
)
RUN = """\
#!/usr/bin/env bash
cd /autograder/submission
file=$(ls {name}.py 2>/dev/null || ls *.py | head -1)
mkdir -p /autograder/results
/autograder/venv/bin/layerflow grade "$file" --exercise {name} --seed {seed} --format gradescope \
    > /autograder/results/results.json
"""
WORKFLOW = """\
name: grade
on: [push, workflow_dispatch]
permissions: {{contents: read}}
jobs:
  {name}:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.12"}}
      - run: pip install {requirement}
      - run: layerflow grade {name}.py --exercise {name} --seed {seed} --format junit > grade.xml
      - run: layerflow grade {name}.py --exercise {name} --seed {seed} --fail-under 100
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "exercise", "list the exercises, or write a hand-out", EXAMPLES)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the exercise; all are listed if it is left out")
    parser.add_argument("--hint", type=int, metavar="LEVEL", help="print a hint, from 1 on")
    parser.add_argument(
        "--package", choices=("gradescope", "github"),
        help="write what grades it: a zip for Gradescope, or a workflow for GitHub",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the hidden cases of a package")
    parser.add_argument(
        "--requirement", default="layerflow", metavar="REQ", help="what the package installs (default: layerflow)"
    )
    add_output_options(parser, "write to this file (default: standard output)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List, or write."""
    if arguments.name is None:
        print(as_table([["exercise", "about"], *[[e.name, e.title] for e in exercises().values()]], numbers=False))
        return 0
    exercise = find_exercise(arguments.name)
    if arguments.hint is not None:
        if not 1 <= arguments.hint <= len(exercise.hints):
            raise ConfigError(f"{exercise.name} has hints 1 to {len(exercise.hints)}, not {arguments.hint}")
        print(exercise.hints[arguments.hint - 1])
        return 0
    path: Path | None = arguments.output
    if arguments.package == "gradescope":
        if path is None:
            raise ConfigError("a package for Gradescope is a zip file: name it with -o")
        check_output(path, arguments.force)
        write_atomically(path, _zipped(exercise, arguments))
        return 0
    values = {"name": exercise.name, "seed": arguments.seed, "requirement": arguments.requirement}
    text = WORKFLOW.format(**values) if arguments.package else exercise.handout()
    write_output(
        text, path, arguments.force, message=f"written; grade it: layerflow grade {path} --exercise {exercise.name}"
    )
    return 0


def _zipped(exercise: Exercise, arguments: argparse.Namespace) -> bytes:
    """What Gradescope runs: setup.sh and run_autograder."""
    content = io.BytesIO()
    values = {"name": exercise.name, "seed": arguments.seed, "requirement": arguments.requirement}
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in (("setup.sh", SETUP), ("run_autograder", RUN)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text.format(**values))
    return content.getvalue()
