"""A reader for new files: of the kind that read the training data, or of the kind that the file's name says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerflow.config.building import Element
from layerflow.config.describing import rebuild_element
from layerflow.config.problems import Source
from layerflow.config.registry import Factory, Registry
from layerflow.config.signatures import is_path, item_hint, members_of, signature_of
from layerflow.config.yaml import parse_value
from layerflow.data import READERS
from layerflow.data.reader import SUPPORTED, Reader, kind_by_name
from layerflow.errors import ConfigError


def without_files(reader: Element) -> dict[str, Any]:
    """Return the description of a reader, all but the files that it reads."""
    files = file_arguments(reader.factory)
    return {name: value for name, value in reader.mapping().items() if name not in files}


def reader_for(words: Sequence[str], known: dict[str, Any], registry: Registry) -> Reader:
    """Return a reader for new files.

    Args:
        words: the files, in the order in which the reader takes them, and settings of the reader (`delimiter=;`).
        known: the description of the reader of the training data; its settings hold for the new file too, unless the
            file's name says that it is of another kind.
        registry: the types known.

    Raises:
        ConfigError: no file, too many of them, or an unsupported type of file.
    """
    files = [word for word in words if "=" not in word or Path(word).exists()]
    settings = dict(_setting(word) for word in words if word not in files)
    if not files:
        raise ConfigError(f"no data file is given, only settings ({', '.join(words)}); name a file first")
    kind, said = kind_by_name(files[0]), known["type"]
    factory = registry.find("reader", said)
    takes_files = factory is not None and bool(file_arguments(factory))
    if kind and (not takes_files or (said in READERS and kind != said)):
        described: dict[str, Any] = {"type": kind}
        factory = READERS[kind]
    elif factory is not None and takes_files:
        described = known
    else:
        raise ConfigError(f"{files[0]}: unsupported file type; {SUPPORTED}")
    if described["type"] == "CSV" and files[0].lower().removesuffix(".gz").endswith(".tsv"):
        described = described | {"delimiter": "\t"}
    described = described | _placed(files, factory, described["type"]) | settings
    reader: Reader = rebuild_element(described, "reader", registry, files[0])
    return reader


def file_arguments(reader: Factory) -> dict[str, bool]:
    """Return the arguments of a reader that are files, in order; True for one that takes any number of them."""
    found = {}
    for name, argument in signature_of(reader).arguments.items():
        members = members_of(argument.annotation)
        is_many = any(is_path(item_hint(member)) for member in members)
        if is_many or any(map(is_path, members)):
            found[name] = is_many
    return found


def _placed(files: Sequence[str], reader: Factory, kind: str) -> dict[str, Any]:
    """Return the files by the arguments that take them."""
    arguments = file_arguments(reader)
    left, placed = list(files), {}
    for name, is_many in arguments.items():
        if left:
            placed[name] = left if is_many else left[0]
            left = [] if is_many else left[1:]
    if left:
        raise ConfigError(f"{kind} takes {len(arguments)} file(s), {', '.join(arguments)}; {len(files)} were given")
    return placed


def _setting(word: str) -> tuple[str, Any]:
    name, _, text = word.partition("=")
    return name, parse_value(text, Source(word, (word,), is_override=True), column=len(name) + 1).plain()
