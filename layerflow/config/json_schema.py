"""A JSON Schema of configurations, made from the signatures that the checks use, for completion in editors.

Draft 2020-12 (https://json-schema.org/draft/2020-12). The checks say more than a schema can: names that refer to each
other in a graph, and what only a constructor knows.
"""

import typing
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from layerflow.config.checking import adapter_of
from layerflow.config.elements import is_plain, plain_value
from layerflow.config.hints import MODEL, bare, fixed_hints, is_path, item_hint, mapped_hint, members_of, metadata_of
from layerflow.config.registry import Registry
from layerflow.config.sections import TopLevel
from layerflow.config.signatures import Argument, Signature, signature_of, summary_of

Schema = dict[str, Any]


def json_schema(registry: Registry | None = None) -> Schema:
    """Return the schema for the types of `registry` (built-in ones when left out)."""
    return _Builder(registry or Registry.builtin()).build()


class _Builder:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def build(self) -> Schema:
        definitions = {kind: self._kind(kind) for kind in self.registry.kinds}
        definitions |= {
            f"{kind}.{name}": self._element(kind, name)
            for kind, known in self.registry.kinds.items()
            for name in known.types
            if name not in known.aliases
        }
        definitions |= self._model()
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "layerflow configuration",
            **self._section(TopLevel),
            "$defs": definitions,
        }

    def _section(self, section: type[BaseModel]) -> Schema:
        return self._object(signature_of(section), summary_of(section))

    def _object(self, signature: Signature, description: str, more: Schema | None = None, spared: str = "") -> Schema:
        properties = dict(more or {}) | {name: self._argument(item) for name, item in signature.arguments.items()}
        required = [name for name, item in signature.arguments.items() if item.is_required and name != spared]
        return {
            "type": "object",
            "description": description,
            "properties": properties,
            "required": [*(["type"] if "type" in properties else []), *required],
            "additionalProperties": signature.is_open,
        }

    def _argument(self, argument: Argument) -> Schema:
        schema = self.hint(argument.annotation)
        if argument.description:
            schema = schema | {"description": argument.description}
        if not argument.is_required and is_plain(argument.default):
            schema = schema | {"default": plain_value(argument.default, None)}
        return schema

    def _kind(self, kind: str) -> Schema:
        known = self.registry.kinds[kind]
        bare_names = [name for name, target in known.types.items() if not _required(target)]
        written = [{"$ref": f"#/$defs/{kind}.{name}"} for name in known.types if name not in known.aliases]
        return {"anyOf": [*([{"enum": bare_names}] if bare_names else []), *written]}

    def _element(self, kind: str, name: str) -> Schema:
        target = self.registry.kinds[kind].types[name]
        more: Schema = {"type": {"const": name}}
        if kind == "gate":
            # Only the last gate of a model may leave out its width; a schema cannot say which one that is.
            more |= {"name": {"type": "string"}, "inputs": _NAMES}
        spared = "out_features" if kind == "gate" else ""
        return self._object(signature_of(target), summary_of(target), more, spared)

    def _model(self) -> Schema:
        again = {
            "type": "object",
            "description": "The gate of an earlier entry once more, parameters shared.",
            "properties": {"name": {"type": "string"}, "same_as": {"type": ["string", "integer"]}, "inputs": _NAMES},
            "required": ["same_as"],
            "additionalProperties": False,
        }
        gates = {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/gate"}, again]}, "minItems": 1}
        arrays = {"type": "object", "additionalProperties": {"type": ["number", "array"]}}
        graph = {
            "type": "object",
            "description": "Gates with names, each saying which nodes it reads.",
            "properties": {
                "inputs": _NAMES,
                "constants": arrays,
                "parameters": arrays,
                "gates": gates,
                "output": _NAMES,
            },
            "required": ["inputs", "gates"],
            "additionalProperties": False,
        }
        return {"model": {"anyOf": [gates, graph]}}

    def hint(self, hint: Any) -> Schema:
        """Return the schema of a type hint."""
        members = members_of(hint)
        if len(members) > 1:
            return {"anyOf": [self.hint(member) for member in members]}
        if MODEL in metadata_of(hint):
            return {"$ref": "#/$defs/model"}
        kind = self.registry.kind_of(hint)
        if kind is not None:
            return {"$ref": f"#/$defs/{kind}"}
        if is_path(hint):
            return {"type": "string", "format": "path"}
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            return self._section(hint)
        if (fixed := fixed_hints(hint)) is not None:
            return {
                "type": "array",
                "prefixItems": [self.hint(h) for h in fixed],
                "minItems": len(fixed),
                "items": False,
            }
        if (item := item_hint(hint)) is not None:
            return {"type": "array", "items": self.hint(item)}
        if (mapped := mapped_hint(hint)) is not None:
            return {"type": "object", "additionalProperties": self.hint(mapped)}
        if typing.get_origin(bare(hint)) is Literal:
            return {"enum": list(typing.get_args(bare(hint)))}
        adapter = adapter_of(hint)
        try:
            return {} if adapter is None else adapter.json_schema()
        except PydanticInvalidForJsonSchema:
            return {}


_NAMES: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


def _required(target: Any) -> bool:
    return any(item.is_required and name != "out_features" for name, item in signature_of(target).arguments.items())
