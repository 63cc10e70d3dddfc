"""What README.md shows besides Python: a shipped configuration, a printed message, commands that exist."""

import re
from pathlib import Path

import pytest

from layerflow.cli import COMMANDS
from layerflow.config import load_config
from layerflow.errors import ConfigError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SHIPPED = (ROOT / "configs/digits_mlp.yaml").read_text("utf-8")


def test_the_configuration_is_the_shipped_one_without_its_head() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert shown == "".join(line for line in SHIPPED.splitlines(True) if not line.startswith("#"))


def test_the_answer_to_a_typo_is_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/digits_mlp.yaml").write_text(SHIPPED.replace("momentum", "momentm"))
    with pytest.raises(ConfigError) as caught:
        load_config(Path("configs/digits_mlp.yaml"))
    assert f"```text\n{caught.value}\n```" in README


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"(?:^|`|&& )layerflow ([a-z]+)", README, re.MULTILINE))
    assert len(named) >= 8
    assert named <= set(COMMANDS)
