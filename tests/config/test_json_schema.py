"""The schema for editors says of each configuration what the checks say."""

import json
from pathlib import Path
from typing import Any

import pytest

from layerflow.cli.schema import json_schema
from layerflow.config import Registry, load_config_text
from layerflow.config.yaml import parse_document, read_document

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema(registry: Registry) -> dict[str, Any]:
    """The schema of the built-in types, as JSON keeps it."""
    written: dict[str, Any] = json.loads(json.dumps(json_schema(registry), allow_nan=False))
    return written


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Any:
    """A validator of the schema, where jsonschema is installed."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_keys_types_defaults_and_documentation_come_from_the_signatures(schema: dict[str, Any]) -> None:
    sgd = schema["$defs"]["optimizer.SGD"]
    assert sgd["required"] == ["type", "lr"]
    assert sgd["properties"]["momentum"] == {"type": "number", "default": 0.0}
    assert sgd["additionalProperties"] is False
    csv = schema["$defs"]["reader.CSV"]["properties"]
    assert csv["path"] == {"type": "string", "format": "path", "description": "The file."}
    assert csv["missing"]["enum"] == ["error", "drop", "mean"]
    assert schema["properties"]["data"]["properties"]["source"]["$ref"] == "#/$defs/reader"
    assert schema["properties"]["train"]["properties"]["epochs"]["description"] == "Passes over the training part."


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(schema)
    assert found
    assert {reference.removeprefix("#/$defs/") for reference in found} <= set(schema["$defs"])


def test_custom_types_are_in_the_schema(custom_registry: Registry) -> None:
    swish = json_schema(custom_registry)["$defs"]["gate.Swish2"]["properties"]
    assert swish["beta"] == {"type": "number", "description": "how steep it is.", "default": 1.0}
    assert swish["mode"] == {"type": "string", "enum": ["exact", "fast"], "default": "exact"}


def test_the_schema_accepts_what_the_checks_accept(validator: Any, registry: Registry, valid: str) -> None:
    valid = valid.replace("val_loss", "val_f1_3").replace("top_3", "f1_3")
    assert not list(validator.iter_errors(parse_document(valid).plain()))
    resolved = load_config_text(valid, registry=registry).resolve()
    assert not list(validator.iter_errors(json.loads(json.dumps(resolved))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("momentum", "momentm"),
        ("lr: 0.1", "lr: x"),
        ("epochs: 5", "epochs: 0"),
        ("ReLU", "Relu"),
        ("test: 0.2", "test: 2"),
        ("accuracy", "f1_x"),
    ],
)
def test_the_schema_refuses_what_the_checks_refuse(validator: Any, valid: str, old: str, new: str) -> None:
    assert list(validator.iter_errors(parse_document(valid.replace(old, new, 1)).plain()))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_schema_accepts_the_shipped_configurations(validator: Any, file: Path) -> None:
    assert not [error.message for error in validator.iter_errors(read_document(file).plain())]
