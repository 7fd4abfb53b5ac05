"""A configuration that would train, but for what a test breaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml


class Workbench:
    """Writes a data file and a configuration that would train, but for what a test breaks."""

    def __init__(self, folder: Path, model: Path, media: Path) -> None:
        self._folder = folder
        self._model = model
        self._media = media

    def row(self, **changes: object) -> dict:
        """A sample in the official shape over a synthetic picture, with fields changed."""
        picture = sorted((self._media / "images").glob("*.png"))[0]
        good = {
            "image": f"images/{picture.name}",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "A shape."},
            ],
        }
        return good | changes

    def turns(self, *turns: tuple[str, str]) -> dict:
        """The same sample with other turns."""
        return self.row(conversations=[{"from": role, "value": text} for role, text in turns])

    def __call__(self, rows: list[dict] | str | None = None, **changes: object) -> Path:
        """The configuration's path; ``data__max_length=3`` sets ``data.max_length``."""
        data = self._folder / "train.jsonl"
        if isinstance(rows, str):
            data.write_text(rows, encoding="utf-8")
        else:
            lines = [json.dumps(row, ensure_ascii=False) for row in rows or [self.row()]]
            data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings: dict = {
            "model": str(self._model),
            "data": {"train": {"path": str(data), "media_root": str(self._media)}},
            "training": {"max_steps": 1, "gradient_accumulation": 1, "precision": "fp32"},
            "verify": {"samples": 1},
            "output": str(self._folder / "run"),
        }
        for key, value in changes.items():
            section = settings
            *path, last = key.split("__")
            for part in path:
                section = section.setdefault(part, {})
            section[last] = value
        config = self._folder / "run.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return config


@pytest.fixture
def workbench(tmp_path: Path, tiny_folder, shapes_folder: Path) -> Workbench:
    """See `Workbench`."""
    return Workbench(tmp_path, tiny_folder("qwen2_5_vl"), shapes_folder)
