"""Run every page of docs/lecture and draw its figures again: python scripts/draw_lecture.py"""

import contextlib
import re
from pathlib import Path

LECTURE = Path(__file__).resolve().parent.parent / "docs" / "lecture"
SCRIPT = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Run the pages in the folder of the figures, which they write to."""
    figures = LECTURE / "figures"
    figures.mkdir(exist_ok=True)
    for page in sorted(LECTURE.glob("[0-9]*.md")):
        print(page.name)
        (script,) = SCRIPT.findall(page.read_text("utf-8"))
        with contextlib.chdir(figures):
            exec(compile(script, str(page), "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
