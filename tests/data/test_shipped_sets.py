import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from layerflow.data import CSV, READERS, Reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def make_data():
    spec = importlib.util.spec_from_file_location("make_data", ROOT / "scripts" / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETS = {
    "breast_cancer.csv": ("diagnosis", (569, 30), ("benign", "malignant")),
    "diabetes.csv": ("progression", (442, 10), None),
    "digits.csv.gz": ("digit", (1797, 64), tuple("0123456789")),
    "iris.csv": ("species", (150, 4), ("setosa", "versicolor", "virginica")),
    "wine.csv": ("cultivar", (178, 13), ("class_0", "class_1", "class_2")),
}


@pytest.mark.parametrize("name", SETS)
def test_every_shipped_set_is_what_its_readme_says(name):
    target, shape, classes = SETS[name]
    data = CSV(str(ROOT / "data" / name), target=target).read()
    assert (data.x.shape, data.classes) == (shape, classes)
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
    assert f"{shape[0]} x {shape[1]}" in row and f"`{target}`" in row
    assert data.checksum.removeprefix("sha256:") in row
    assert f"| {(ROOT / 'data' / name).stat().st_size} |" in row
    assert f"## {name}" in readme


def test_the_check_names_what_differs(make_data, tmp_path, capsys):
    assert make_data.main(["--check"]) == 0
    for file in (ROOT / "data").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "iris.csv").write_text("a,b\n")
    (tmp_path / "wine.csv").unlink()
    assert make_data.main(["--check", "--out", str(tmp_path)]) == 4
    errors = capsys.readouterr().err
    assert re.search("iris.csv: SHA-256 is", errors) and re.search("wine.csv: missing", errors)
    assert "digits" not in errors


def test_the_sets_can_be_made_again_to_the_byte(make_data, tmp_path):
    pytest.importorskip("sklearn", minversion="1.9")  # earlier copies differ in a digit
    assert make_data.main(["--out", str(tmp_path)]) == 0
    made = {file.name for file in tmp_path.iterdir()}
    assert set(SETS) - made <= {"sunspots.csv", "words.txt.gz"}  # whose sources the tests do not install
    for name in made:
        assert (tmp_path / name).read_bytes() == (ROOT / "data" / name).read_bytes(), name


def test_pixels_stand_where_their_names_say():
    data = CSV(str(ROOT / "data" / "digits.csv.gz"), target="digit").read()
    np.testing.assert_array_equal(data.x[0].reshape(8, 8)[0], [0, 0, 5, 13, 9, 1, 0, 0])
    assert data.features[:9] == ("p00", "p01", "p02", "p03", "p04", "p05", "p06", "p07", "p10")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_explains_every_argument(name):
    reader = READERS[name]
    assert issubclass(reader, Reader) and reader.__name__ == name
    for argument in inspect.signature(reader).parameters.values():
        assert re.search(rf"^ +{argument.name}: \S", reader.__doc__, re.MULTILINE), argument
        assert argument.annotation is not inspect.Parameter.empty
