"""`report.html`: everything on one page that needs nothing else, whatever the data are called."""

import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from layerflow.cli import main
from layerflow.report import environment

ROOT = Path(__file__).parents[2]
EVIL = ["<script>alert(1)</script>", "a&b", '"onclick="x']
MODEL = "model: [{type: Linear, out_features: 8}, ReLU, Linear]"


class Page(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1] not in ("style", "script"):
            self.words.append(data)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Page]:
    """Train what a configuration says, and return its report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # no picture of a run needs it

    def make(config: str, *overrides: str, name: str = "c") -> Page:
        Path(f"{name}.yaml").write_text(config)
        main(["train", f"{name}.yaml", *overrides, "--quiet"])
        return Page((tmp_path / "runs" / name / "001" / "report.html").read_text("utf-8"))

    return make


def table(classes: list[str], feature: str = "<i>width", rows: int = 60) -> None:
    """Write `t.csv`: two features, and classes that are far from separable."""
    rng = np.random.default_rng(0)
    quoted = ['"' + name.replace('"', '""') + '"' for name in classes]
    lines = [f"{x:.3f},{y:.3f},{quoted[n % len(classes)]}" for n, (x, y) in enumerate(rng.normal(size=(rows, 2)))]
    Path("t.csv").write_text("\n".join([f"{feature},height,kind", *lines]))


CLASSES = f"""\
data: {{source: {{type: CSV, path: t.csv, target: kind}}, scale: Standard}}
{MODEL}
loss: SoftmaxCE
optimizer: {{type: SGD, lr: 0.1}}
"""
NUMBERS = f"""\
data: {{source: {{type: CSV, path: {ROOT}/data/diabetes.csv, target: progression}}, scale: Standard}}
{MODEL}
loss: SquaredError
optimizer: {{type: SGD, lr: 0.001}}
"""


def test_names_from_the_data_never_become_markup(report: Callable[..., Page]) -> None:
    table(EVIL)
    page = report(CLASSES, "train.epochs=2", name="<img src=x onerror=alert(1)>")
    for name in (*EVIL, "<i>width", "<img src=x onerror=alert(1)> / 001"):
        assert name in page.text
    assert page.tags.count("script") == 1
    assert "i" not in page.tags
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_loads_nothing(report: Callable[..., Page]) -> None:
    page = report((ROOT / "configs/digits_mlp.yaml").read_text().replace("../data", f"{ROOT}/data"), "train.epochs=1")
    addresses = [
        value for name, value in page.attributes if name in ("src", "href", "action", "data", "srcset", "poster")
    ]
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert (
        "content",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:",
    ) in page.attributes
    for file in ("run.css", "charts.css", "run.js"):
        source, _, _ = environment().loader.get_source(environment(), file)  # type: ignore[union-attr]
        assert not re.search(r"url\(|@import|https?:|fetch\(|import\(", source)


def test_digits_are_drawn_and_counted(report: Callable[..., Page]) -> None:
    page = report((ROOT / "configs/digits_mlp.yaml").read_text().replace("../data", f"{ROOT}/data"), "train.epochs=1")
    right, samples = map(int, re.search(r"(\d+) of (\d+) test samples correct", page.text).groups())  # type: ignore[union-attr]
    assert samples == 359
    assert page.tags.count("img") == min(24, samples - right)
    accuracy = float(re.search(r"test accuracy ([\d.]+)", page.text)[1])  # type: ignore[index]
    assert accuracy == pytest.approx(right / samples, abs=1e-4)
    for words in (
        "Loss",
        "Accuracy",
        "Learning rate",
        "Gradient norm",
        "Relative update",
        "Confusion",
        "Worst predictions",
        "Linear(out_features=256) (64, 256) 16,640",
        "sha256:",
    ):
        assert words in page.text


def test_it_says_how_to_run_it_again(report: Callable[..., Page]) -> None:
    table(["a", "b"])
    page = report(CLASSES, "train.epochs=1")
    assert "layerflow train runs/c/001/config.yaml --name c" in page.text
    assert main(["train", "runs/c/001/config.yaml", "--name", "c", "--quiet"]) == 0
    first, second = (
        Path(f"runs/c/{number}/metrics.jsonl").read_text().split('"seconds"')[0] for number in ("001", "002")
    )
    assert first == second


def test_the_same_run_gives_the_same_pictures(report: Callable[..., Page]) -> None:
    table(["a", "b"])
    for _ in range(2):
        report(CLASSES, "train.epochs=1")
    for picture in ("curves.svg", "confusion.svg"):
        assert Path("runs/c/001", picture).read_bytes() == Path("runs/c/002", picture).read_bytes()


def test_a_regression_shows_predictions_and_a_table_of_values(report: Callable[..., Page]) -> None:
    page = report(NUMBERS, "train.epochs=2")
    assert page.tags.count("circle") == 88
    for words in ("RMSE", "R2", "Predictions", "Largest errors", "bmi", "constant guess"):
        assert words in page.text


def test_two_classes_with_one_score_work(report: Callable[..., Page]) -> None:
    table(["no", "yes"])
    page = report(CLASSES.replace("SoftmaxCE", "SigmoidCE"), "train.epochs=2")
    assert "recall" in page.text
    assert "Worst predictions" in page.text


def test_a_model_that_is_always_right_shows_its_least_certain_predictions(report: Callable[..., Page]) -> None:
    Path("t.csv").write_text("x,z,kind\n" + "".join(f"{n % 2 * 2 - 1},0.{n},{'ab'[n % 2]}\n" for n in range(60)))
    page = report(CLASSES, "train.epochs=20")
    assert "Least certain predictions" in page.text
    assert "Every prediction is correct" in page.text


def test_a_run_that_diverged_says_why(report: Callable[..., Page]) -> None:
    with np.errstate(all="ignore"):
        page = report(NUMBERS, "optimizer.lr=1e30")
    assert "The run diverged after 0 complete epochs" in page.text
    assert "Curves" not in page.text


def test_without_a_test_part_the_validation_part_is_shown(report: Callable[..., Page]) -> None:
    table(["a", "b"])
    page = report(CLASSES, "data.test=null", "train.epochs=1")
    assert "validation samples correct" in page.text


def test_without_held_back_data_there_are_curves_only(report: Callable[..., Page]) -> None:
    table(["a", "b"])
    page = report(CLASSES, "data.test=null", "data.validation=null", "train.epochs=1")
    assert "Loss" in page.text
    assert "Confusion" not in page.text


def test_many_classes_become_a_list_of_confusions(report: Callable[..., Page]) -> None:
    table([f"class{n}" for n in range(50)], rows=500)
    page = report(CLASSES, "train.epochs=1")
    assert "The most frequent confusions" in page.text
    assert "precision" not in page.text
