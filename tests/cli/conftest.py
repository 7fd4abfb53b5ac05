"""A configuration that would train, but for what a test breaks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import yaml
from typer.testing import CliRunner


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
            "verify": {"samples": 1, "max_new_tokens": 12},
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


class Learned(NamedTuple):
    """A model that knows one picture by heart.

    Attributes:
        run: The directory of the rehearsal that taught it.
        picture: The picture.
        question: What was asked about it.
        answer: What it has to answer: boxes in JSON.
        config: The configuration that was rehearsed.
    """

    run: Path
    picture: Path
    question: str
    answer: str
    config: Path


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory, shapes_rows: list[dict[str, Any]]) -> Learned:
    """See `Learned`; made by the command."""
    from sightline.cli.main import app

    folder = tmp_path_factory.mktemp("learned")
    row = shapes_rows[0]
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    settings = {
        "model": "tiny:qwen2_5_vl",
        "data": {"train": [{"path": str(folder / "train.jsonl"), "allow_outside": True}]},
        "tuning": {"language": "lora", "head": "lora", "lora": {"rank": 16, "alpha": 192}},
        "training": {
            "learning_rate": 4e-3,
            "gradient_accumulation": 1,
            "gradient_checkpointing": False,
        },
        "output": str(folder / "run"),
    }
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    outcome = CliRunner().invoke(app, ["rehearse", str(config), "--samples", "1"])
    assert outcome.exit_code == 0, outcome.output
    asked, answered = (turn["value"] for turn in row["conversations"])
    return Learned(
        run=folder / "run-rehearsal",
        picture=Path(row["image"]),
        question=asked.removeprefix("<image>").strip(),
        answer=answered,
        config=config,
    )


@pytest.fixture(scope="session")
def run_maker() -> ModuleType:
    """Writes run directories as a training writes them, without one: tests/unit/report."""
    path = Path(__file__).parents[1] / "unit" / "report" / "make_run.py"
    spec = importlib.util.spec_from_file_location("make_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
