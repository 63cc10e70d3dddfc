"""A person's own types: imported when asked for, checked like built-in ones, and never by a file alone."""

# ruff: noqa: E501 - a table shows each expected line whole

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import layerflow as lf
from layerflow.config import Registry, load_config_text
from layerflow.config import registry as registry_module
from layerflow.config.elements import build
from layerflow.errors import ConfigError

CONFIG = """\
data: {source: {type: Nothing, rows: [1, 2]}}
model: [{type: Swish2, beta: 2}, Half, {type: Linear}]
loss: MeanLoss
optimizer: {type: SignSGD, lr: 1}
"""


def test_custom_types_of_every_kind_are_built(custom_registry: Registry) -> None:
    config = load_config_text(CONFIG, registry=custom_registry)
    model = config.build_model(2)
    assert isinstance(model, lf.Sequential)
    assert [type(gate).__name__ for gate in model] == ["Swish2", "Half", "Linear"]
    built = [build(config.loss), build(config.optimizer), build(config.data.source)]
    assert [type(item).__name__ for item in built] == ["MeanLoss", "SignSGD", "Nothing"]
    assert config.resolve()["model"][0] == {"type": "Swish2", "beta": 2.0, "mode": "exact", "inner": None}


@pytest.mark.parametrize(
    ("written", "settings"),
    [
        ("Polynomial", (1.0, (), 0.0)),
        ("{type: Polynomial, scale: 2, shift: 3}", (2.0, (), 3.0)),
        ("{type: Polynomial, coefficients: [4, 5], shift: 3}", (1.0, (4.0, 5.0), 3.0)),
    ],
)
def test_variadic_arguments_are_written_as_a_list(
    custom_registry: Registry, written: str, settings: tuple[object, ...]
) -> None:
    config = load_config_text(CONFIG.replace("Half", written), registry=custom_registry)
    for loaded in (config, load_config_text(config.to_yaml(), registry=custom_registry)):
        model = loaded.build_model(2)
        assert isinstance(model, lf.Sequential)
        assert vars(model[1])["settings"] == settings


CASES: list[tuple[str, str, str]] = [
    ("beta", "betta", "c.yaml:2:24: model.0.betta: unknown key, did you mean 'beta'?"),
    ("beta: 2", "beta: x", "c.yaml:2:30: model.0.beta: must be a number, not the text 'x'"),
    ("beta: 2", "beta: -2", "c.yaml:2:30: model.0.beta: Swish2: beta must not be negative, not -2.0"),
    ("beta: 2", "beta: 0", "c.yaml:2:9: model.0: Swish2: ZeroDivisionError: float division by zero"),
    ("beta: 2", "mode: quick", "c.yaml:2:30: model.0.mode: must be 'exact' or 'fast', not the text 'quick'"),
    ("beta: 2", "inner: Rlu", "c.yaml:2:31: model.0.inner: unknown gate 'Rlu', did you mean 'ReLU'? Known: "),
    ("Half", "{type: Half, x: 1}", "c.yaml:2:47: model.1.x: unknown key; known keys: type, name"),
    ("Half", "{type: Bounded, rate: 0}", "c.yaml:2:56: model.1.rate: must be greater than 0, not 0"),
    ("Half", "{type: Bounded, size: 10}", "c.yaml:2:56: model.1.size: must be less than or equal to 9, not 10"),
    ("Half", "{type: Bounded, size: x}", "c.yaml:2:56: model.1.size: must be an integer or null, not the text 'x'"),
    ("MeanLoss", "Half", "c.yaml:3:7: loss: unknown loss 'Half': it is a gate"),
    ("rows: [1, 2]", "rows: [1, a]", "c.yaml:1:42: data.source.rows.1: must be an integer, not the text 'a'"),
    (", rows: [1, 2]", "", "c.yaml:1:16: data.source: Nothing needs 'rows' (a list (each item an integer))"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "first_line"), CASES, ids=[case[1] or case[0] for case in CASES])
def test_custom_types_are_checked_like_built_in_ones(
    custom_registry: Registry, old: str, new: str, first_line: str
) -> None:
    assert old in CONFIG
    with pytest.raises(ConfigError) as caught:
        load_config_text(CONFIG.replace(old, new, 1), registry=custom_registry, name="c.yaml")
    reported = str(caught.value).splitlines()[0]
    assert reported.startswith(first_line) if first_line.endswith(": ") else reported == first_line


def test_a_file_alone_imports_nothing(registry: Registry, custom_file: Path) -> None:
    for name in ("os.system", f"{custom_file.stem}.Swish2", str(custom_file), "Swish2"):
        with pytest.raises(ConfigError, match="unknown gate"):
            load_config_text(
                f"data: {{source: Moons}}\nmodel: ['{name}']\nloss: SoftmaxCE\noptimizer: Adam", registry=registry
            )


def test_a_file_runs_once_per_process(custom_file: Path) -> None:
    first, second = Registry.builtin([str(custom_file)]), Registry.builtin([str(custom_file)])
    assert first.find("gate", "Swish2") is second.find("gate", "Swish2")


def test_a_module_is_imported_by_its_name(tmp_path: Path, custom_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_of_layers.py").write_text(custom_file.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Registry.builtin(["a_module_of_layers"]).find("gate", "Swish2") is not None
    del sys.modules["a_module_of_layers"]


BROKEN: list[tuple[str, str]] = [
    ("import layerflow as lf\n\n1 / 0\n", "{file}:3: ZeroDivisionError: division by zero\n    1 / 0"),
    ("def f():\n    raise KeyError('x')\nf()\n", "{file}:2: KeyError: 'x'\n    raise KeyError('x')"),
    ("x = [\n", "{file}:1: SyntaxError: '[' was never closed\n    x = ["),
    ("import nowhere_to_be_found\n", "{file}:1: ModuleNotFoundError: No module named 'nowhere_to_be_found'\n    import nowhere_to_be_found"),
    ("raise SystemExit(3)\n", "{file}:1: SystemExit: 3\n    raise SystemExit(3)"),
    ("x = 1\n", "defines no gate, loss, optimizer, schedule or reader that can be used"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message"), BROKEN)
def test_a_broken_file_is_reported_with_its_own_line(tmp_path: Path, code: str, message: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(code)
    with pytest.raises(ConfigError) as caught:
        Registry.builtin([str(file)])
    assert str(caught.value) == f"--import {file}: {message.format(file=file)}"


def test_what_cannot_be_found_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    for name, message in {
        "missing.py": "--import missing.py: no such file",
        "nowhere_to_be_found": "--import nowhere_to_be_found: no such module",
        "mine": "--import mine: no such module, did you mean --import mine.py?",
    }.items():
        with pytest.raises(ConfigError) as caught:
            Registry.builtin([name])
        assert str(caught.value) == message


def test_the_name_of_a_built_in_type_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "clash.py"
    file.write_text("import layerflow as lf\nclass Linear(lf.Gate):\n    pass\n")
    with pytest.raises(ConfigError) as caught:
        Registry.builtin([str(file)])
    assert (
        str(caught.value) == f"--import {file}: 'Linear' is also the name of a built-in type: give yours another name"
    )


def test_two_files_may_not_define_the_same_name(tmp_path: Path) -> None:
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for file in files:
        file.write_text("import layerflow as lf\nclass Mine(lf.Gate):\n    pass\n")
    with pytest.raises(ConfigError, match=r"two.py: 'Mine' is also the name of the one in imported_one"):
        Registry.builtin(map(str, files))


def test_a_type_is_added_from_python() -> None:
    class Twice(lf.Gate):
        """y = 2 x."""

    registry = Registry.builtin()
    registry.add(Twice)
    assert registry.find("gate", "Twice") is Twice
    with pytest.raises(
        ConfigError, match="'int' is no subclass of Augmentation, Averaging, Callback, Gate, Optimizer, Reader"
    ):
        registry.add(int)


class Plugin(lf.Gate):
    """A gate of an installed package."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two entry points, one of which cannot be imported; the names of those that were loaded."""
    loaded: list[str] = []

    class Recorded(EntryPoint):
        def load(self) -> object:
            loaded.append(self.name)
            if self.name == "Broken":
                raise ImportError("no CUDA")
            return Plugin

    group = registry_module.ENTRY_POINT_GROUP
    points = [Recorded(name, f"package:{name}", group) for name in ("Plugin", "Broken", "ReLU")]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points)
    yield loaded


def test_an_entry_point_is_loaded_only_when_its_name_is_used(installed: list[str]) -> None:
    text = "data: {source: Moons}\nmodel: [%s, {type: Linear}]\nloss: SoftmaxCE\noptimizer: Adam"
    registry = Registry.builtin()
    load_config_text(text % "ReLU", registry=registry)
    assert installed == []
    assert load_config_text(text % "Plugin", registry=registry).build_model(2)[0].__class__ is Plugin  # type: ignore[index]
    assert installed == ["Plugin"]
    with pytest.raises(ConfigError, match=r"^the gate 'Broken' cannot be imported: ImportError: no CUDA$"):
        load_config_text(text % "Broken", registry=registry)
    with pytest.raises(ConfigError, match="unknown gate 'Plugn', did you mean 'Plugin'"):
        load_config_text(text % "Plugn", registry=Registry.builtin())
