"""`layerflow gates`: every gate that a configuration can name, with its formula and signature."""

import argparse
import inspect
import json
from dataclasses import asdict, dataclass
from typing import Any

from layerflow.cli import add_command, add_import_option
from layerflow.config import Registry
from layerflow.config.registry import Factory, summary_of
from layerflow.errors import ConfigError, did_you_mean

EXAMPLES = """\
  layerflow gates
  layerflow gates Linear
  layerflow gates --import my_layers.py
"""

KINDS = ("gate", "loss", "regularizer")
OWN = "your own"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, common, "gates", "list all gates with formula and signature, or explain one", EXAMPLES
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="explain this gate in full")
    add_import_option(parser)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Entry:
    """What is printed about a gate."""

    name: str
    family: str
    signature: str
    formula: str
    documentation: str


def run(arguments: argparse.Namespace) -> int:
    """Print all gates, or one."""
    entries = list_gates(Registry.builtin(arguments.imports))
    if arguments.name is not None:
        chosen = [entry for entry in entries if entry.name == arguments.name]
        if not chosen:
            names = [entry.name for entry in entries]
            hint = did_you_mean(arguments.name, names) or "; `layerflow gates` lists them all"
            raise ConfigError(f"unknown gate {arguments.name!r}{hint}")
        entries = chosen
    if arguments.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif arguments.name is not None:
        print(f"{entries[0].name}{entries[0].signature}\n\n{entries[0].documentation}")
    else:
        print("\n\n".join(families(entries)))
    return 0


def list_gates(registry: Registry) -> list[Entry]:
    """Return the gates, losses and regularizers by family, built-in ones first; each once."""
    found: dict[str, Entry] = {}
    for kind in KINDS:
        for name in registry.names(kind):
            factory = registry.find(kind, name)
            if factory is not None and name not in found:
                family = OWN if name in registry.own else family_of(factory)
                formula, text = summary_of(factory), inspect.getdoc(factory) or "(no docstring)"
                found[name] = Entry(name, family, signature(factory), formula, text)
    order = list(dict.fromkeys(entry.family for entry in found.values()))
    return sorted(found.values(), key=lambda entry: (entry.family == OWN, order.index(entry.family)))


def family_of(factory: Factory) -> str:
    """Return the family of a built-in gate: the file that defines it."""
    module = factory.__module__
    return module.rpartition(".")[2] if module.startswith("layerflow.gates.") else "containers"


def signature(factory: Factory) -> str:
    """Return how Python calls the gate, less its type hints: `(out_features, in_features=None)(x)`."""
    if isinstance(factory, type):
        return f"{_bare(factory.__init__)}{_bare(factory.forward)}"  # type: ignore[misc, attr-defined]
    return _bare(factory, skipped=0)


def _bare(method: Any, skipped: int = 1) -> str:
    if method is object.__init__:
        return "()"
    parameters = list(inspect.signature(method).parameters.values())[skipped:]
    return str(inspect.Signature([item.replace(annotation=item.empty) for item in parameters]))


def families(entries: list[Entry]) -> list[str]:
    """Return one block of text per family."""
    blocks: dict[str, list[str]] = {}
    for entry in entries:
        blocks.setdefault(entry.family, []).append(f"  {entry.name}{entry.signature}\n      {entry.formula}")
    return ["\n".join([family, *lines]) for family, lines in blocks.items()]
