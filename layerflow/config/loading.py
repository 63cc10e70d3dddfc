"""From YAML and overrides to a `Config`: every problem found is reported, all at once."""

import os
from collections.abc import Iterable
from pathlib import Path as FilePath

from layerflow.config.checking import SECTIONS, Checker
from layerflow.config.config import Config
from layerflow.config.document import Node, parse_document, read_document
from layerflow.config.hints import shown
from layerflow.config.overrides import apply_override
from layerflow.config.problems import InvalidConfig, Problem
from layerflow.config.registry import Registry
from layerflow.config.sections import TopLevel


def load_config(
    file: str | FilePath, overrides: Iterable[str] = (), registry: Registry | None = None, seed: int | None = None
) -> Config:
    """Load and check a YAML file.

    Args:
        file: The configuration; relative paths in it start at its folder.
        overrides: `optimizer.lr=0.05`, ...: put into the document before it is checked.
        registry: The types it may name; `Registry.builtin()` when left out.
        seed: Replaces the seed of the file (`--seed`).

    Raises:
        ConfigError: with every problem, its line and a caret.
    """
    folder = os.path.dirname(os.path.abspath(file))
    return _load(read_document(file), str(file), folder, overrides, registry, seed)


def load_config_text(
    text: str,
    overrides: Iterable[str] = (),
    registry: Registry | None = None,
    seed: int | None = None,
    name: str = "<text>",
    folder: str = ".",
) -> Config:
    """Load and check YAML text, as `load_config` does a file; relative paths start at `folder`."""
    return _load(parse_document(text, name), name, os.path.abspath(folder), overrides, registry, seed)


def _load(
    root: Node, name: str, folder: str, overrides: Iterable[str], registry: Registry | None, seed: int | None
) -> Config:
    checker = Checker(registry or Registry.builtin(), folder)
    problems = checker.problems
    if not isinstance(root.value, dict):
        wanted = f"must be a mapping with the sections {', '.join(SECTIONS)}"
        raise InvalidConfig([Problem(root.place, (), f"{wanted}, not {shown(root.plain())}")])
    for override in [*overrides, *([] if seed is None else [f"seed={seed}"])]:
        apply_override(root, override, problems)
    sections = checker.section(root, TopLevel, ())
    problems.raise_if_any()
    return Config(sections, checker.registry, name)
