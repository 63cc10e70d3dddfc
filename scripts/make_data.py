"""Create the data sets in data/ from the copies that scikit-learn, statsmodels and Debian's wamerican bundle.

    python scripts/make_data.py            # writes those whose source is installed
    python scripts/make_data.py --check    # compares the files with the checksums in data/README.md (needs no packages)

The files are reproducible byte for byte: numbers are written in their shortest form, gzip headers contain no time.
(Another implementation of zlib may compress digits.csv.gz to different bytes with the same content.)
"""

import argparse
import gzip
import hashlib
import io
import re
import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

WORDS = Path("/usr/share/dict/american-english")
DATA = Path(__file__).resolve().parents[1] / "data"


def table(features: Iterable[str], target: str, rows: Iterable[Iterable[float]], targets: Iterable[object]) -> bytes:
    """Return a CSV file: the features, then the target."""
    lines = [",".join([*features, target])]
    lines += [",".join([*map(number, row), str(value)]) for row, value in zip(rows, targets, strict=True)]
    return ("\n".join(lines) + "\n").encode()


def number(value: float) -> str:
    """Return the shortest text that reads back as the same number: 12 rather than 12.0."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def clean(name: str) -> str:
    """Return a column name in lower case, with underscores: 'sepal length (cm)' becomes 'sepal_length_cm'."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def classified(bunch: Any, target: str) -> bytes:
    """Return the table of a data set with named classes."""
    return table(map(clean, bunch.feature_names), target, bunch.data, bunch.target_names[bunch.target])


def make_sets() -> dict[str, bytes]:
    """Return the contents of the shipped files whose source is installed, by name."""
    made: dict[str, bytes] = {}
    for name, make in (("scikit-learn", of_sklearn), ("statsmodels", of_statsmodels), ("wamerican", of_debian)):
        try:
            made |= make()
        except (ImportError, FileNotFoundError):
            print(f"make_data: {name} is not installed; its sets are left as they are", file=sys.stderr)
    if not made:
        raise SystemExit("make_data: nothing to make the data from: pip install scikit-learn statsmodels")
    return made


def of_statsmodels() -> dict[str, bytes]:
    """Return the sunspot numbers."""
    file = files("statsmodels") / "datasets" / "sunspots" / "sunspots.csv"
    rows = [line.split(",") for line in file.read_text(encoding="utf-8").split()[1:]]
    return {"sunspots.csv": table(["year"], "sunspots", [[float(year)] for year, _ in rows], [n for _, n in rows])}


def of_debian() -> dict[str, bytes]:
    """Return the English words of three letters or more, in small letters without accents and apostrophes."""
    words = WORDS.read_text(encoding="utf-8").split()
    kept = [word for word in words if re.fullmatch("[a-z]{3,}", word)]
    return {"words.txt.gz": compressed(("\n".join(kept) + "\n").encode())}


def of_sklearn() -> dict[str, bytes]:
    """Return the sets that scikit-learn bundles."""
    from sklearn import datasets

    digits = datasets.load_digits()
    pixels = [f"p{row}{column}" for row in range(8) for column in range(8)]
    diabetes = datasets.load_diabetes(scaled=False)
    return {
        "breast_cancer.csv": classified(datasets.load_breast_cancer(), "diagnosis"),
        "diabetes.csv": table(diabetes.feature_names, "progression", diabetes.data, map(number, diabetes.target)),
        "digits.csv.gz": compressed(table(pixels, "digit", digits.data, digits.target)),
        "iris.csv": classified(datasets.load_iris(), "species"),
        "wine.csv": classified(datasets.load_wine(), "cultivar"),
    }


def compressed(content: bytes) -> bytes:
    """Return the content as gzip, without a time or a name in the header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def documented(folder: Path) -> dict[str, str]:
    """Return the SHA-256 checksums in README.md of the folder, by file name."""
    return dict(re.findall(r"`([\w.]+)`.*`([0-9a-f]{64})`", (folder / "README.md").read_text(encoding="utf-8")))


def check(folder: Path) -> list[str]:
    """Return the problems of the files in the folder, one line each."""
    wrong = []
    for name, checksum in documented(folder).items():
        if not (folder / name).is_file():
            wrong.append(f"{folder / name}: missing; run scripts/make_data.py")
        elif (found := sha256((folder / name).read_bytes())) != checksum:
            wrong.append(f"{folder / name}: SHA-256 is {found}, README.md says {checksum}; run scripts/make_data.py")
    return wrong or ([] if documented(folder) else [f"{folder / 'README.md'}: contains no checksums"])


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 checksum."""
    return hashlib.sha256(content).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0, or 4 if a file differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the files with the checksums")
    parser.add_argument("--out", type=Path, default=DATA, help="the folder (default: data)")
    options = parser.parse_args(arguments)
    if options.check:
        wrong = check(options.out)
        print("\n".join(wrong) or "all checksums match", file=sys.stderr if wrong else sys.stdout)
        return 4 if wrong else 0
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in make_sets().items():
        (options.out / name).write_bytes(content)
        print(f"{sha256(content)}  {name}  {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
