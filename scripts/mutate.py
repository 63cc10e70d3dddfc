"""Change the code a little in one place at a time, and see whether the tests notice.

    python scripts/mutate.py layerflow/gates --tests tests/gates --mutants 100
    python scripts/mutate.py layerflow/sweep.py --tests tests/test_sweep.py tests/containers --mutants 40 --seed 1

Each mutant has one change: an operator for another one (+ and -, * and /, < and <=, and and or, == and !=), a number by
one, a condition turned round, a `return` of nothing. Docstrings, messages, type hints and errors are left alone. The
tests run in a copy of the repository, and stop at the first failure; a mutant that takes ten times as long as the
unchanged code counts as noticed. What survives is listed with its line: a test is missing, or the change makes no
difference.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.USub: ast.UAdd, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def places(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that can be changed, and how."""

    def visit(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
            return
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.AugAssign) and type(node.op) in SWAPS:
            yield node, "operator"
        if isinstance(node, ast.BoolOp):
            yield node, "operator"
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, "comparison"
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and not isinstance(node.value, bool):
            yield node, "number"
        if isinstance(node, ast.If | ast.IfExp):
            yield node, "condition"
        if isinstance(node, ast.Return) and node.value is not None:
            yield node, "return"
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.AST):
                    yield from visit(item)

    yield from visit(tree)


def change(node: ast.AST, kind: str) -> str:
    """Change the node in place, and return what was done."""
    if kind in ("operator", "comparison"):
        holder, key = (node.ops, 0) if isinstance(node, ast.Compare) else (vars(node), "op")
        old = holder[key]  # type: ignore[index]
        holder[key] = SWAPS[type(old)]()  # type: ignore[index]
        return f"{type(old).__name__} -> {type(holder[key]).__name__}"  # type: ignore[index]
    if isinstance(node, ast.Constant):
        old_value = node.value
        node.value = old_value + 1
        return f"{old_value!r} -> {node.value!r}"
    if isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return "condition turned round"
    assert isinstance(node, ast.Return)
    node.value = ast.Constant(None)
    return "return None"


def mutants(files: list[Path], count: int, seed: int) -> list[tuple[Path, int]]:
    """Draw mutants: a file and the number of a place in it."""
    every = [(file, i) for file in files for i, _ in enumerate(places(ast.parse(file.read_text("utf-8"))))]
    return random.Random(seed).sample(every, min(count, len(every)))


def main() -> int:
    """Run the command line; return 1 if less than 95 % of the mutants are noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", required=True)
    parser.add_argument("--mutants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files = [f for path in options.files for f in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
        for name in filter(None, names):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *options.tests]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}

        def fails(limit: float | None) -> bool:
            try:
                done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=limit)
            except subprocess.TimeoutExpired:
                return True
            return done.returncode != 0

        start = time.perf_counter()
        if fails(None):
            raise SystemExit("the tests fail without any change")
        usual = time.perf_counter() - start
        survivors = []
        chosen = mutants([file.resolve().relative_to(ROOT) for file in files], options.mutants, options.seed)
        for file, index in chosen:
            source = (ROOT / file).read_text("utf-8")
            tree = ast.parse(source)
            node, kind = list(places(tree))[index]
            line, done = getattr(node, "lineno", 0), change(node, kind)
            (copy / file).write_text(ast.unparse(ast.fix_missing_locations(tree)), "utf-8")
            if not fails(10 * usual):
                survivors.append(f"{file}:{line}: {done}: {source.splitlines()[line - 1].strip()}")
                print(survivors[-1], flush=True)
            (copy / file).write_text(source, "utf-8")
    noticed = len(chosen) - len(survivors)
    print(f"{noticed} of {len(chosen)} mutants noticed, {noticed / len(chosen):.1%}")
    return int(noticed < 0.95 * len(chosen))


if __name__ == "__main__":
    sys.exit(main())
