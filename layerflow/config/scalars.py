"""Scalars as YAML 1.2 means them (core schema): `1e-4` is a number; `no`, `on` and `12:30` are text.

PyYAML follows YAML 1.1, where `1e-4` is text, `no` is false and `12:30` is 750. The rules here are those of
YAML 1.2.2, section 10.3.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

import math
import re
from typing import Any

import yaml

Scalar = str | int | float | bool | None

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


def read_scalar(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar; raise `ValueError` for a number that Python cannot hold."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if len(text) > 300 and any(number.fullmatch(text) for number in (_DECIMAL, _OCTAL, _HEXADECIMAL, _FLOAT)):
        raise ValueError("a number of more than 300 characters")
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _INFINITY.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    if _NAN.fullmatch(text):
        return math.nan
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError("a number beyond the range of a float (write .inf for infinity)")
        return number
    return text


class _Dumper(yaml.SafeDumper):
    """Writes YAML that 1.1 and 1.2 readers understand alike: text that either takes for something else is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full, so that no reader meets an anchor."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Line breaks of every kind survive only as escapes.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern in (("int", _OCTAL), ("int", _DECIMAL), ("int", _HEXADECIMAL), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


def dump_yaml(value: object) -> str:
    """Return plain values as YAML text that `read_document` reads back to the same values."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def inline_yaml(value: object) -> str:
    """Return a plain value as YAML on one line, for use inside `{...}`, `[...]` or after a key."""
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": math.inf, "default_flow_style": True}
    listed: str = yaml.dump([value], Dumper=_Dumper, **options)
    return listed.strip()[1:-1]
