"""The direction of the dependencies, and what `import layerflow` may cost."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import layerflow

PACKAGE = Path(layerflow.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"yaml", "tqdm", "pydantic", "jinja2", "filelock", "threadpoolctl", "narwhals", "matplotlib", "numpy.random"}

# What each part may import of the package; `core` is what needs NumPy alone.
GATE = {"gate", "contract", "parameter", "errors"}
SWEEP = GATE | {"sweep", "store"}
CORE = SWEEP | {"gates", "containers"}
TRAINING = CORE | {"engine", "training", "data"}
ALLOWED = {
    "errors": set(),
    "parameter": {"errors"},
    "contract": {"parameter", "errors"},
    "gate": {"contract", "parameter", "errors"},
    "gates": GATE | {"gates"},
    "sweep": GATE,
    "store": GATE,
    "containers": CORE,
    "blocks": CORE | {"blocks"},
    "engine": CORE | {"engine"},
    "data": {"data", "errors"},
    "gradcheck": CORE | {"engine", "gradcheck"},
    "testing": CORE | {"gradcheck"},
    "training": TRAINING,
    "config": TRAINING | {"config", "blocks"},
    "interop": TRAINING | {"config", "interop", "runs"},
    "runs": TRAINING | {"config", "runs"},
    "course": TRAINING | {"course", "gradcheck"},
    "report": TRAINING | {"config", "runs", "report", "gradcheck"},
    "preflight": TRAINING | {"config", "gradcheck", "preflight"},
}
NUMPY_ALONE = {
    "errors",
    "parameter",
    "contract",
    "gate",
    "gates",
    "sweep",
    "store",
    "containers",
    "blocks",
}


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """All modules that a file imports, wherever in it, but for what only type checkers read."""
    found = []

    def visit(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.extend(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            below = [f"{node.module}.{name.name}" for name in node.names]
            found.extend(below if node.module == "layerflow" else [node.module])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_dependencies_keep_their_direction(path):
    part = part_of(path)
    if part not in ALLOWED:
        assert part in {"__init__", "__main__", "cli"}, f"{part} has no place in the table above"
        return
    inside = {name.split(".")[1] for name in imports(path) if name.startswith("layerflow.")}
    assert inside <= ALLOWED[part], f"{part} may not import {', '.join(sorted(inside - ALLOWED[part]))}"


def module_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_each_other():
    modules = {module_of(path): path for path in FILES}
    # A package that imports its own modules in `__init__`, to hand on their names, is no cycle.
    graph = {
        name: {found for found in imports(path) if found in modules and not name.startswith(found)}
        for name, path in modules.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


def test_the_core_stays_small():
    core = [p for p in FILES if part_of(p) == "containers" or (p.parent == PACKAGE and not p.stem.startswith("__"))]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in core) <= 2200


def test_a_file_name_occurs_once():
    # the cases of a family carry its name
    files = [path for path in FILES if path.parent.name != "examples"]
    names = [path.stem for path in files if not path.stem.startswith("__")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("path", [path for path in FILES if part_of(path) in NUMPY_ALONE], ids=name_of)
def test_the_core_needs_numpy_alone(path):
    outside = {name.split(".")[0] for name in imports(path)} - {"layerflow", "numpy"}
    assert outside <= sys.stdlib_module_names


@pytest.mark.parametrize("path", [path for path in FILES if part_of(path) != "report"], ids=name_of)
def test_matplotlib_is_left_to_reports(path):
    assert "matplotlib" not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_holds_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


@pytest.mark.parametrize("module", ["layerflow", "layerflow.cli"])
def test_importing_it_imports_nothing_heavy(module):
    code = f"import sys, numpy; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    loaded = set(result.stdout.split())
    assert "layerflow" in loaded
    assert not loaded & HEAVY


def test_this_test_sees_imports_wherever_they_stand(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import os, numpy.linalg\nfrom typing import TYPE_CHECKING\nfrom layerflow import cli\n"
        "if TYPE_CHECKING:\n    import yaml\ndef f():\n    from layerflow.training.trainer import Trainer\n"
    )
    assert imports(path) == ["os", "numpy.linalg", "typing", "layerflow.cli", "layerflow.training.trainer"]
