"""Mutated configurations: wrong at the level of bytes, of text, of YAML, and of meaning."""

# ruff: noqa: E501 - tables of hostile values stay tables

import random
from collections.abc import Callable
from typing import Any

from case import Case

from layerflow.config.yaml import dump_yaml, parse_document

REFUSED = frozenset({2})
TABLE = "a,b,c,kind\n" + "".join(f"{i % 7},{i * i % 11},{i % 3 + 0.5},{'yes' if i % 2 else 'no'}\n" for i in range(40))
NUMBERS = "a,b,c,kind\n" + "".join(f"{i % 7},{i * i % 11},{i % 3 + 0.5},{i * 0.37}\n" for i in range(40))

CONFIGS = {
    "row": """\
# A row of gates on a table.
seed: 3
dtype: float32
data:
  source: {type: CSV, path: ../data/table.csv, target: kind, features: [a, b, c], categorical: [a], missing: error}
  test: 0.2
  validation: 0.1
  stratify: true
  scale: Standard
model:
  - {type: Linear, out_features: 16, bias: true, init: he}
  - ReLU
  - {type: Dropout, rate: 0.3}
  - {name: scores, type: Linear}
loss: SoftmaxCE
regularizer: [{type: L2Regularizer, strength: 1e-5}, {type: L1Regularizer, strength: 1e-6}]
optimizer: {type: SGD, lr: 0.1, momentum: 0.9, nesterov: true}
schedule: {type: Warmup, epochs: 3, start_factor: 0.1, after: {type: Step, step_size: 30, gamma: 0.3}}
train:
  epochs: 5
  batch_size: 4
  shuffle: true
  drop_last: false
  clip_norm: 5.0
  early_stopping: {metric: val_loss, patience: 4, min_delta: 0}
  checkpoint: {every: 100 steps, keep: 2}
  metrics: [accuracy, f1]
""",
    "graph": """\
data:
  source: {type: Moons, samples: 100, noise: 0.1, seed: 1}
  validation: {type: Moons, samples: 20, seed: 2}
model:
  inputs: [x]
  constants: {two: 2.0}
  gates:
    - {name: h, type: Linear, out_features: 8, init: {type: Normal, std: 0.1}, inputs: x}
    - {name: block, type: Sequential, gates: [{type: Linear, out_features: 8}, ReLU], inputs: h}
    - {name: again, same_as: block, inputs: block}
    - {name: sum, type: Add, inputs: [h, again]}
    - {name: twice, type: Multiply, inputs: [sum, two]}
    - {name: scores, type: Linear, inputs: twice}
  output: scores
loss: {type: MulticlassSVM, margin: 1.0}
optimizer: {type: Adam, lr: 1e-3, betas: [0.9, 0.999]}
schedule: Cosine
train: {epochs: 3, batch_size: 16, best: val_accuracy}
""",
    "regression": """\
dtype: float64
data:
  source:
    type: CSV
    path: ../data/numbers.csv
    target: kind
  test: 0.2
  validation: null
  scale: {type: Divide, by: 16}
model:
  - type: Linear
    init: zeros
loss: {type: Huber, delta: 1.0}
optimizer:
  type: RMSprop
  lr: 0.05
train:
  epochs: 30
  batch_size: 8
  shuffle: false
""",
    "spiral": """\
data: {source: {type: Spiral, samples: 150, classes: 3}, scale: MinMax}
model: [{type: Linear, out_features: 8}, Sigmoid, {type: LeakyReLU, negative_slope: 0.1}, Softplus, Linear]
loss: {type: SoftmaxCE, class_weight: [1, 2, 1]}
optimizer: AdamW
schedule: {type: ReduceOnPlateau, metric: train_loss, factor: 0.5, patience: 3}
""",
}
PIECES = ["*x", "&x ", "!!int ", "!!python/object/apply:os.system ['true']", "[", "]", "{", "}", ": ", "- ", "\t", "#", "'", '"', "|\n", ">-\n", "? ",
          "null", ".nan", ".inf", "1e400", "-1", "[]", "{}", "{type: Linear}", "\x00", "\x1b[31m", "\u2028", "\ufeff", "---\n", "...\n", "%YAML 9.9\n",
          "<<: *x", "9" * 400, "\U0001f600", "\u202e", "é", "０", "\xa0", "x" * 3000, "- " * 200, "[" * 500, "{a: " * 100, "\\ud800", '"\\ud800"']  # fmt: skip
VALUES = ["", "text", "no", "12:30", 0, 1, -1, 3, 1.5, -0.0, 1e-300, 1e300, 1e39, float("nan"), float("inf"), -float("inf"), 2**31, 2**63, 2**64, 10**30,
          -(2**63), True, False, None, [], {}, [[]], [1, "x"], [None], {"a": 1}, {"type": "ReLU"}, {"type": []}, {"type": None}, "ReLU", "Linear", "SGD",
          "../../etc/passwd", "/dev/null", "/dev/zero", ".", "~", "\x00", "a" * 5000, "é\u202e", ["ReLU"] * 30, {"type": "Sequential", "gates": []}, 10**6, 10**9]  # fmt: skip


def config_case(seed: int) -> Case:
    """Return the case of a seed."""
    draw = random.Random(f"config {seed}")
    name = draw.choice(list(CONFIGS))
    mutate = draw.choice(_MUTATIONS)
    case = mutate(draw, CONFIGS[name])
    case.what = f"{name}: {case.what}"
    case.words = [
        *draw.choice(
            [["check", "--quick"], ["check", "--quick"], ["check"], ["train", "--dry-run"], ["train", "--dry-run"]]
        ),
        *case.words,
    ]
    case.files |= {"data/table.csv": TABLE.encode(), "data/numbers.csv": NUMBERS.encode()}
    return case


def _case(what: str, text: str | bytes, *overrides: str, **law: Any) -> Case:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return Case(what, {"configs/c.yaml": content}, ["configs/c.yaml", *overrides], config="configs/c.yaml", **law)


# Keys --------------------------------------------------------------------------------------------------------------


def _mappings(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return every mapping of a tree in which keys are not free, with its path."""
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _mappings(item, (*path, index))]
    if not isinstance(value, dict):
        return []
    own = [] if path and path[-1] in ("constants", "parameters") else [(path, value)]
    return own + [found for key, item in value.items() for found in _mappings(item, (*path, key))]


def _misspelt(draw: random.Random, key: str) -> str:
    at = draw.randrange(len(key))
    ways = [key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:], key[:at] + draw.choice("abcxyz_- ") + key[at:], key.upper(), key.title(), f"{key}_", f"{key}s",
            f" {key}", key.replace("e", "е"), key[::-1], "".join(draw.choices("abcdefgh", k=8))]  # fmt: skip
    return next((way for way in draw.sample(ways, len(ways)) if way != key and way not in _ALL_KEYS), f"{key}x")


def _rename_key(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    path, mapping = draw.choice([found for found in _mappings(tree) if found[1]])
    old = draw.choice(list(mapping))
    new = _misspelt(draw, old)
    items = [(new if key == old else key, value) for key, value in mapping.items()]
    mapping.clear()
    mapping.update(items)
    # Without `type` or `gates` there may be nothing yet that the key could be compared with.
    says = () if old in ("type", "gates", "same_as") else (new, repr(new))
    return _case(f"{old!r} at {path} became {new!r}", dump_yaml(tree), refused=REFUSED, says=says)


def _insert_key(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    path, mapping = draw.choice(_mappings(tree))
    key = _misspelt(draw, draw.choice(sorted(_ALL_KEYS)))
    mapping[key] = draw.choice([value for value in VALUES if value != float("nan")])
    return _case(f"{key!r} inserted at {path}", dump_yaml(tree), refused=REFUSED, says=(key, repr(key)))


def _move_key(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    source, (path, target) = tree, draw.choice(_mappings(tree))
    while True:  # down to a key that does not hold the mapping it moves to
        key = draw.choice(list(source))
        if path[:1] != (key,) and not (isinstance(source[key], dict) and draw.random() < 0.6):
            break
        source = source[key] if isinstance(source[key], dict) and source[key] and path[:1] != (key,) else source
    target[key] = source.pop(key)
    return _case(f"a key moved to {path}", dump_yaml(tree))


def _duplicate_key(draw: random.Random, text: str) -> Case:
    lines = text.split("\n")
    at = draw.choice(
        [index for index, line in enumerate(lines) if ":" in line and not line.lstrip().startswith(("-", "#"))]
    )
    indent, key = len(lines[at]) - len(lines[at].lstrip()), lines[at].split(":")[0].strip()
    end = next(
        (index for index in range(at + 1, len(lines)) if len(lines[index]) - len(lines[index].lstrip()) <= indent),
        len(lines),
    )
    lines.insert(end, f"{' ' * indent}{key}: 1")
    return _case(f"{key!r} twice", "\n".join(lines), refused=REFUSED, says=(f"{key!r} is written twice",))


def _override(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    path, mapping = draw.choice([found for found in _mappings(tree) if found[1]])
    old = draw.choice(list(mapping))
    if draw.random() < 0.5:
        new = next(
            new
            for new in iter(lambda: _misspelt(draw, old).replace(" ", "_"), None)
            if new not in _ALL_KEYS and new[0] != "-"
        )
        word = ".".join(map(str, (*path, new))) + "=1"
        return _case(f"override {word}", text, word, refused=REFUSED, says=(new, repr(new)))
    value = draw.choice(PIECES + [dump_yaml(value).strip().removesuffix("...").strip() for value in VALUES])
    word = ".".join(map(str, (*path, old))) + "=" + value.replace("\0", "")
    return _case(f"override {word[:60]!r}", text, word)


# Values ------------------------------------------------------------------------------------------------------------


def _other_value(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    for _ in range(draw.choice([1, 1, 2])):
        _, mapping = draw.choice([found for found in _mappings(tree) if found[1]])
        key = draw.choice(list(mapping))
        mapping[key] = draw.choice(VALUES)
    return _case(f"{key!r} has another value, {str(mapping[key])[:30]!r}", dump_yaml(tree))


def _huge_number(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    numbers = [
        (mapping, key)
        for _, mapping in _mappings(tree)
        for key, value in mapping.items()
        if type(value) in (int, float)
    ]
    mapping, key = draw.choice(numbers)
    mapping[key] = draw.choice(
        [10**k for k in range(3, 25)]
        + [10.0**k for k in range(3, 300, 30)]
        + [-(10**9), 2**31 - 1, 2**32, 2**63 - 1, 2**64, 1e-320]
    )
    return _case(f"{key!r} is {mapping[key]}", dump_yaml(tree))


def _drop_key(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    path, mapping = draw.choice([found for found in _mappings(tree) if found[1]])
    key = draw.choice(list(mapping))
    del mapping[key]
    return _case(f"{key!r} at {path} left out", dump_yaml(tree))


# Text and bytes ----------------------------------------------------------------------------------------------------


def _edit_text(draw: random.Random, text: str) -> Case:
    kinds = []
    for _ in range(draw.randint(1, 4)):
        kind, at = (
            draw.choice(["character", "piece", "delete", "double", "swap", "indent", "tab"]),
            draw.randrange(max(len(text), 1)),
        )
        lines = text.split("\n")
        one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
        if kind == "character":
            text = (
                text[:at]
                + chr(draw.choice([draw.randrange(128), draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)]))
                + text[at + 1 :]
            )
        elif kind == "piece":
            text = text[:at] + draw.choice(PIECES) + text[at + draw.randint(0, 6) :]
        elif kind == "delete":
            text = text[:at] + text[at + draw.randint(1, 30) :]
        elif kind == "double":
            text = "\n".join([*lines[:one], lines[two], *lines[one:]])
        elif kind == "swap":
            lines[one], lines[two] = lines[two], lines[one]
            text = "\n".join(lines)
        else:
            lines[one] = ("\t" if kind == "tab" else " " * draw.randint(1, 5)) + lines[one]
            text = "\n".join(lines)
        kinds.append(kind)
    return _case(f"text: {', '.join(kinds)}", text)


def _bytes(draw: random.Random, text: str) -> Case:
    content = text.encode()
    at = draw.randrange(len(content))
    kind, content = draw.choice([
        ("cut", content[:at]),
        ("noise", content[:at] + draw.randbytes(draw.randint(1, 40)) + content[at + draw.randint(0, 20) :]),
        ("noise alone", draw.randbytes(draw.randint(0, 2000))),
        ("UTF-16", text.encode("utf-16")),
        ("Latin-1", text.replace("e", "é").encode("latin-1")),
        ("BOM and CRLF", b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")),
        ("CR", content.replace(b"\n", b"\r")),
        ("a flipped bit", content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]),
        ("zeros", content + bytes(draw.randint(1, 5000))),
        ("tabs", content.replace(b"  ", b"\t")),
        ("huge", content + b"# more\n" * draw.choice([10_000, 100_000])),
    ])  # fmt: skip
    return _case(f"bytes: {kind}", content)


def _bomb(draw: random.Random, text: str) -> Case:
    depth = draw.choice([10, 49, 51, 100, 5000])
    kind, more = draw.choice([
        ("laughs", "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9))),
        ("itself", "a: &a {b: *a}\n"),
        ("merge", "base: &base {lr: 1}\nother: {<<: *base}\n"),
        ("deep lists", "a: " + "[" * depth + "]" * depth + "\n"),
        ("deep mappings", "a: " + "{a: " * depth + "1" + "}" * depth + "\n"),
        ("deep blocks", "".join(f"{' ' * i}a:\n" for i in range(min(depth, 600)))),
        ("many keys", "".join(f"k{i}: 1\n" for i in range(draw.choice([100, 8000])))),
        ("long scalar", f"a: {'x' * draw.choice([10_000, 250_000])}\n"),
        ("long quoted", 'a: "' + "\\x41" * 20_000 + '"\n'),
        ("long key", f"{'k' * 2000}: 1\n"),
        ("question", "? [a, b]\n: 1\n"),
    ])  # fmt: skip
    return _case(f"bomb: {kind}", draw.choice([more + text, text + more]), refused=REFUSED)


def _deep_model(draw: random.Random, text: str) -> Case:
    tree = parse_document(text).plain()
    depth, copies = draw.choice([(1, 100), (1, 600), (3, 5), (5, 1), (20, 1), (24, 1), (48, 1), (200, 1), (5000, 1)])
    gates = "ReLU"
    for _ in range(depth):
        gates = f"{{type: Sequential, gates: [{', '.join([gates] * copies)}]}}"
    del tree["model"]
    return _case(f"a model {depth} deep, {copies} wide", f"{dump_yaml(tree)}model: [{gates}, Linear]\n")


def _anchors(draw: random.Random, text: str) -> Case:
    """Right YAML that says the same in another way is read as what it says."""
    lines = text.split("\n")
    at = draw.choice(
        [
            index
            for index, line in enumerate(lines)
            if ": " in line and line.strip()[0] not in "-#" and line.split(": ", 1)[1][0] not in "{["
        ]
    )
    key, value = lines[at].split(": ", 1)
    lines[at] = f"{key}: &here {value}"
    more = draw.choice(
        ["", "seed: *here", "loss: *here", "dtype: *nowhere", "train: {epochs: *here}", "schedule: *here"]
    )
    return _case(f"an anchor at {key.strip()!r}, {more!r}", "\n".join([*lines, more, ""]))


_MUTATIONS: list[Callable[[random.Random, str], Case]] = [
    _rename_key, _rename_key, _insert_key, _insert_key, _move_key, _duplicate_key, _override, _other_value, _other_value, _huge_number, _drop_key,
    _edit_text, _edit_text, _edit_text, _bytes, _bytes, _bomb, _deep_model, _anchors,
]  # fmt: skip
_ALL_KEYS = {key for text in CONFIGS.values() for _, mapping in _mappings(parse_document(text).plain()) for key in mapping} | {
    "eps", "alpha", "beta", "dampening", "clip_value", "task", "delimiter", "decay", "turns", "x", "y",
}  # fmt: skip
