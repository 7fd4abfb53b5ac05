"""What the tests of the configuration share: a file, written and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.config import RunConfig, load_config
from sightline.errors import ConfigError

SMALLEST = "model: tiny:qwen2_vl\ndata:\n  train: train.jsonl\noutput: runs/x\n"


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes run.yaml; without a text the smallest configuration, in four lines."""

    def write(text: str = SMALLEST) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def loaded(config_file: Callable[[str], Path]) -> Callable[..., RunConfig]:
    """Loads the smallest configuration with more lines behind it."""

    def load(more: str = "", *overrides: str) -> RunConfig:
        return load_config(config_file(SMALLEST + more), overrides)

    return load


@pytest.fixture
def refused(config_file: Callable[[str], Path]) -> Callable[..., list[str]]:
    """Lines of the refusal of the smallest configuration with more lines behind it.

    Line 5 of the file is the first that is added. The file's folder is left out of the message.
    """

    def refuse(more: str = "", *overrides: str, text: str | None = None) -> list[str]:
        path = config_file(SMALLEST + more if text is None else text)
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        return str(caught.value).replace(f"{path.parent}/", "").split("\n")

    return refuse
