"""`layerflow schema`: the JSON Schema of configurations."""

import argparse
import json
import re
from typing import Any

from layerflow.cli import add_command, add_import_option
from layerflow.config import Registry
from layerflow.config.checking import REFERENCE, type_schema
from layerflow.config.elements import WIDTH, TopLevel
from layerflow.config.registry import Factory, signature_of

EXAMPLES = """\
  layerflow schema > layerflow.schema.json
  layerflow schema --import my_layers.py > layerflow.schema.json
an editor with a YAML language server completes a file that begins with
  # yaml-language-server: $schema=layerflow.schema.json
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, common, "schema", "print the JSON Schema of configurations, for completion in editors", EXAMPLES
    )
    add_import_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(json_schema(Registry.builtin(arguments.imports)), indent=2))
    return 0


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """Return a JSON schema of configurations for the types of `registry` (built-in ones when left out).

    Draft 2020-12 (https://json-schema.org/draft/2020-12), for completion in editors. The checks say more than a schema
    can: names that refer to each other in a graph, and what only a constructor knows.
    """
    registry = registry or Registry.builtin()
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    beside = {"name": {"type": "string"}, "inputs": names}
    definitions: dict[str, Any] = {"model": _model_schema(names, beside)}
    for kind, types in registry.types.items():
        first_names = {target: name for name, target in reversed(types.items())}  # the others are lower-case aliases
        for target, name in first_names.items():
            definitions[f"{kind}.{name}"] = _element_schema(target, name, beside if kind == "gate" else {})
        lone = [name for name, target in types.items() if not _needs_more(target)]
        references = [{REFERENCE: f"{kind}.{name}"} for name, target in types.items() if first_names[target] == name]
        definitions[kind] = {"anyOf": [*([{"enum": lone}] if lone else []), *references]}
    whole = type_schema(TopLevel) | {"title": "layerflow configuration", "$defs": definitions}
    text = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | whole)
    # pydantic refuses references to definitions that are not its own.
    schema: dict[str, Any] = json.loads(re.sub(f'"{REFERENCE}": "', '"$ref": "#/$defs/', text))
    return schema


def _element_schema(target: Factory, name: str, beside: dict[str, Any]) -> dict[str, Any]:
    schema = type_schema(target)
    schema["properties"] = {"type": {"const": name}} | beside | schema["properties"]
    schema["required"] = ["type", *schema.get("required", [])]
    return schema


def _needs_more(target: Factory) -> bool:
    """Whether a type has required settings, so that its name alone does not describe it."""
    return any(item.is_required and item.name != WIDTH for item in signature_of(target).values())


def _model_schema(names: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    again = {
        "type": "object",
        "description": "The gate of an earlier entry once more, parameters shared.",
        "properties": {"same_as": {"type": ["string", "integer"]}, **beside},
        "required": ["same_as"],
        "additionalProperties": False,
    }
    gates = {"type": "array", "items": {"anyOf": [{REFERENCE: "gate"}, again]}, "minItems": 1}
    arrays = {"type": "object", "additionalProperties": {"type": ["number", "array"]}}
    graph = {
        "type": "object",
        "description": "Gates with names; each says which nodes it reads.",
        "properties": {"inputs": names, "constants": arrays, "parameters": arrays, "gates": gates, "output": names},
        "required": ["inputs", "gates"],
        "additionalProperties": False,
    }
    return {"anyOf": [gates, graph]}
