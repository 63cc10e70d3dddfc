"""Every Python example of README.md and docs/ runs and gives what the page says.

The ```python blocks of one file run in order, in one namespace. Where a ```text block follows, with nothing but blank
lines between, it is compared with what was printed; `...` there stands for anything on a line, and a number like 4e-13
for any so small, since rounding differs between machines. A comment behind an expression is compared with its value
where it is a Python literal: `2 * 3    # 6`.

The pages of docs/lecture draw figures and have a test of their own, in test_lecture.py.
"""

import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "lecture")]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_give_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        code, expected = block.groups()
        # Blank lines in front give every line its number in the page, in tracebacks and in messages that quote it.
        source = "\n" * text[: block.start(1)].count("\n") + code
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            for statement in ast.parse(source).body:
                run(statement, source, page, namespace)
        said = printed.getvalue()
        assert expected is None or agrees(said, expected), f"{page}: printed\n{said}\nexpected\n{expected}"


def test_a_page_that_says_something_else_would_fail() -> None:
    assert agrees("a 1 b\nc\n", "a ... b\nc\n")
    assert not agrees("a 1 b\nc\n", "a ... c\nc\n")
    assert not agrees("a\n", "")
    assert agrees("error 3.1e-12\n", "error 4e-13\n")
    assert not agrees("error 3.1e-02\n", "error 4e-13\n")
    with pytest.raises(AssertionError, match="line 2"):
        run(ast.parse("\n2 * 3    # 7").body[0], "\n2 * 3    # 7", Path("page.md"), {})


def run(statement: ast.stmt, source: str, page: Path, namespace: dict[str, Any]) -> None:
    """Run one statement, and compare an expression's value with the literal in the comment behind it."""
    if not isinstance(statement, ast.Expr):
        exec(compile(ast.Module([statement], []), str(page), "exec"), namespace)
        return
    value = eval(compile(ast.Expression(statement.value), str(page), "eval"), namespace)
    line = source.splitlines()[(statement.end_lineno or 1) - 1]
    comment = line[len(line.encode()[: statement.end_col_offset].decode()) :].strip().removeprefix("#")
    try:
        said = ast.literal_eval(comment.strip())
    except (SyntaxError, ValueError):
        return
    assert np.allclose(value, said) if isinstance(said, float | int) else value == said, (
        f"{page}, line {statement.end_lineno}: {value!r}, the page says {said!r}"
    )


def agrees(printed: str, expected: str) -> bool:
    """Whether what was printed is what was expected, `...` standing for anything and 4e-13 for any number so small."""
    pattern = re.escape(expected.rstrip()).replace(re.escape("..."), "[^\n]*")
    pattern = re.sub(r"\d(\\\.\d)?e\\-(0[7-9]|[1-9]\d)", r"\\d(\\.\\d)?e-(0[7-9]|[1-9]\\d)", pattern)
    return re.fullmatch(pattern, printed.rstrip()) is not None
