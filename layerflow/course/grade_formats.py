"""Grades in the forms that other systems read.

Gradescope: gradescope-autograders.readthedocs.io, "Autograder Specifications". Classroom 50: its wiki, "Advanced
Autograding", schema classroom50/result/v1. Otter: `GradingResults.to_list` of ottr, what Otter's Python side reads.
"""

import datetime
import json
import os
from collections.abc import Callable
from xml.etree import ElementTree

from layerflow.course.grading import Grade, Item


def as_text(grade: Grade) -> str:
    """For a terminal."""
    width = max(len(item.name) for item in grade.items)
    lines = [f"{grade.file}: {grade.exercise}: {grade.points} of {grade.most} points"]
    for item in grade.items:
        points = f"{item.points}/{item.most}"
        lines += [f"  {item.name.ljust(width)}  {points}  {item.message}".rstrip()]
    return "\n".join([*lines, *[f"  {note}" for note in grade.notes]]) + "\n"


def as_json(grade: Grade) -> str:
    """All there is."""
    items = [vars(item) for item in grade.items]
    facts = {"exercise": grade.exercise, "file": grade.file, "points": grade.points, "most": grade.most}
    return json.dumps({**facts, "items": items, "notes": grade.notes}, indent=2) + "\n"


def as_gradescope(grade: Grade) -> str:
    """The content of results.json."""
    tests = [
        {
            "name": item.name, "score": item.points, "max_score": item.most, "output": item.message, "visibility": "visible",
            "status": "passed" if item.points == item.most else "failed",
        }
        for item in grade.items
    ]  # fmt: skip
    result = {"score": grade.points, "output": "\n".join(grade.notes), "stdout_visibility": "hidden", "tests": tests}
    return json.dumps(result, indent=2) + "\n"


def as_classroom50(grade: Grade) -> str:
    """The content of result.json; what the runner gives comes from its environment."""
    tests = [
        {"test-name": item.name, "passed": item.points == item.most, "score": item.points, "max-score": item.most,
         "message": item.message}
        for item in grade.items
    ]  # fmt: skip
    given = os.environ
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = {
        "schema": "classroom50/result/v1",
        "classroom": given.get("CLASSROOM", ""),
        "assignment": given.get("ASSIGNMENT", grade.exercise),
        "submission": given.get("SUBMISSION_TAG", ""),
        "commit": given.get("COMMIT_URL", ""),
        "release": given.get("RELEASE_URL", ""),
        "review": given.get("REVIEW_URL") or given.get("COMMIT_URL", ""),
        "datetime": now,
        "score": grade.points,
        "max-score": grade.most,
        "tests": tests,
    }
    return json.dumps(result, indent=2) + "\n"


def as_otter(grade: Grade) -> str:
    """Grading results as JSON, one test file with a case for each item."""
    cases = [
        {"passed": item.points == item.most, "error": item.message or None,
         "test_case": {"name": item.name, "points": item.most, "hidden": False, "success_message": None,
                       "failure_message": item.message or None}}
        for item in grade.items
    ]  # fmt: skip
    file = {"filename": grade.exercise, "points": grade.most, "test_case_results": cases}
    return json.dumps({"test_file_results": [file]}, indent=2) + "\n"


def as_junit(grade: Grade) -> str:
    """JUnit's XML: a test case for each item."""
    failed = [item for item in grade.items if item.points < item.most]
    suite = ElementTree.Element(
        "testsuite", name=grade.exercise, tests=str(len(grade.items)), failures=str(len(failed)), errors="0"
    )
    for item in grade.items:
        case = ElementTree.SubElement(suite, "testcase", classname=grade.exercise, name=item.name)
        if item.points < item.most:
            failure = ElementTree.SubElement(case, "failure", message=f"{item.points} of {item.most} points")
            failure.text = _printable(item)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _printable(item: Item) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in item.message)


FORMATS: dict[str, Callable[[Grade], str]] = {
    "text": as_text, "json": as_json, "gradescope": as_gradescope, "classroom50": as_classroom50, "otter": as_otter,
    "junit": as_junit,
}  # fmt: skip
