"""A working directory with data of each tool, and its importer over a few keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.config import RunConfig, load_config
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.llamafactory_config import import_llamafactory
from sightline.interop.official import import_official
from sightline.interop.swift import import_swift

MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"


class Tools:
    """The importers, over a file of the keys that a test is about.

    Args:
        folder: The working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def llamafactory(self, **keys: Any) -> Imported:
        """LLaMA-Factory's."""
        file = self.folder / "train.yaml"
        file.write_text(yaml.safe_dump({"model_name_or_path": MODEL, "dataset": "demo"} | keys))
        return import_llamafactory(file, folder=self.folder)

    def swift(self, flags: str = "", *, launch: str = "swift sft") -> Imported:
        """ms-swift's."""
        file = self.folder / "train.sh"
        file.write_text(f"{launch} --model {MODEL} --dataset data/own.jsonl {flags}\n")
        return import_swift(file, folder=self.folder)

    def swift_file(self, **keys: Any) -> Imported:
        """ms-swift's, of a YAML file."""
        file = self.folder / "train.yaml"
        file.write_text(yaml.safe_dump({"model": MODEL, "dataset": ["data/own.jsonl"]} | keys))
        return import_swift(file, folder=self.folder)

    def official(self, flags: str = "", *, launch: str = "python") -> Imported:
        """That of Qwen's own code."""
        file = self.folder / "sft.sh"
        file.write_text(f"{launch} train_qwen.py --dataset_use a --tune_mm_llm True {flags}\n")
        return import_official(file, folder=self.folder)

    def rows(self, result: Imported, key: str) -> list[Carried]:
        """All rows of a key, in order."""
        return [row for row in result.rows if row.key == key]

    def loaded(self, result: Imported) -> RunConfig:
        """The written run.yaml, as a run loads it."""
        (self.folder / "run.yaml").write_text(render_yaml(result))
        return load_config(self.folder / "run.yaml")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text(
        json.dumps({"demo": {"file_name": "demo.json"}})
    )
    (tmp_path / "data/demo.json").write_text("[{}, {}, {}]")
    (tmp_path / "data/own.jsonl").write_text("{}\n")
    (tmp_path / "qwenvl/data").mkdir(parents=True)
    (tmp_path / "qwenvl/data/__init__.py").write_text(
        'data_dict = {"a": {"annotation_path": "data/own.jsonl", "data_path": ""}}\n'
    )
    monkeypatch.chdir(tmp_path)
    return Tools(tmp_path)
