"""A few samples that stand for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.config import RunConfig
from sightline.model import open_checkpoint
from sightline.preparation import PlannedData, prepare_data
from sightline.preparation.choosing import choose_samples


@pytest.fixture
def read(tmp_path: Path, tiny_folder: Any) -> Any:
    """Read sources, one a list of rows."""

    def planned(*sources: list[dict]) -> PlannedData:
        paths = []
        for number, rows in enumerate(sources):
            path = tmp_path / f"{number}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            paths.append({"path": str(path), "allow_outside": True})
        config = RunConfig.model_validate(
            {
                "model": str(tiny_folder("qwen2_5_vl")),
                "data": {"train": paths},
                "output": str(tmp_path / "run"),
            }
        )
        return prepare_data(config, open_checkpoint(config.model, config.data)).train

    return planned


def _text(question: str, answer: str = "Yes.") -> dict:
    turns = [("human", question), ("gpt", answer)]
    return {"conversations": [{"from": who, "value": what} for who, what in turns]}


def test_every_source_and_kind_is_there_before_any_comes_twice(
    read: Any, shapes_rows: list[dict]
) -> None:
    """Ten like samples before them, and a second source behind them."""
    alike = [_text(f"Is {number} a number?") for number in range(10)]
    data = read([*alike, *shapes_rows], [_text("Is it late?")])
    chosen = choose_samples(data, 5)
    kinds = [one.kinds[0] for one in chosen.samples]
    assert sorted(kinds) == ["image", "image", "text alone", "text alone", "video"]
    assert any("several images" in one.kinds for one in chosen.samples)
    assert any("boxes" in one.kinds for one in chosen.samples)
    assert chosen.samples[-1].origin.endswith("1.jsonl:1")
    assert chosen.num_conversations == len(alike) + len(shapes_rows) + 1
    assert chosen.left_out == ()

    few = choose_samples(data, 1)
    assert len(few.samples) == 1
    assert set(few.left_out) >= {"video", "text alone"}

    rehearsed = chosen.of(data)
    assert [str(sample.conversation.origin) for sample in rehearsed.samples] == [
        one.origin for one in chosen.samples
    ]


def test_one_question_is_asked_once(read: Any) -> None:
    """No model can know two answers to it."""
    data = read([_text("Who?", "Anna."), _text("Who?", "Berta."), _text("When?")])
    chosen = choose_samples(data, 3)
    assert [one.origin.rpartition(":")[2] for one in chosen.samples] == ["1", "3"]
