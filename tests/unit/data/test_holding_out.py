"""A share of the training data that is held out: whole pictures, whatever the order of the rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.config.load import config_of
from sightline.errors import ConfigError
from sightline.model import open_checkpoint
from sightline.preparation import PreparedData, prepare_data

NUM_PICTURES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sightline.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("held") / "shapes"
    write_shapes(folder, num_images=NUM_PICTURES, height=64, width=64)
    return folder


def _row(number: int, *pictures: int) -> dict[str, Any]:
    images = [f"images/{picture:05d}.png" for picture in pictures]
    asked = "<image>" * len(images) + f"\nQuestion {number}?"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": f"Answer {number}."}]
    return {"image": images, "conversations": turns} if images else {"conversations": turns}


@pytest.fixture
def prepared(folder: Path, tiny_folder, tmp_path: Path) -> Callable[..., PreparedData]:
    """Rows as data of a run, a share of them held out."""

    def prepare(rows: list[dict[str, Any]], share: str, **training: Any) -> PreparedData:
        path = tmp_path / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        model = str(tiny_folder("qwen2_5_vl"))
        source = {"path": str(path), "media_root": str(folder)}
        data = {"train": [source], "eval": share, "processes": 1}
        values = {"model": model, "data": data, "output": str(tmp_path / "run")}
        config = config_of(values | {"training": training}, tmp_path)
        return prepare_data(config, open_checkpoint(model, config.data))

    return prepare


def _pictures(samples: Any) -> set[str]:
    return {str(part.path) for sample in samples for part in sample.conversation.images()}


def _words(samples: Any) -> set[str]:
    return {sample.conversation.messages[-1].text for sample in samples}


def test_a_picture_that_trains_is_never_evaluated_on(prepared) -> None:
    rows = [_row(number, number % NUM_PICTURES) for number in range(3 * NUM_PICTURES)]
    data = prepared(rows, "25%")
    train, held_out = data.train.samples, data.eval.samples
    assert (len(train), len(held_out)) == (18, 6)
    assert len(_pictures(held_out)) == 2
    assert _pictures(train) & _pictures(held_out) == set()
    assert _words(train) | _words(held_out) == {f"Answer {number}." for number in range(24)}


def test_samples_that_share_a_picture_by_way_of_others_stay_together(prepared) -> None:
    chain = [_row(0, 0, 1), _row(1, 1, 2), _row(2, 2)]
    data = prepared([*chain, _row(3, 3), _row(4, 4), _row(5)], "20%")
    assert len(data.eval.samples) == 1
    assert _words(data.eval.samples) <= {"Answer 3.", "Answer 4.", "Answer 5."}


def test_the_order_of_the_rows_has_no_effect_and_the_seed_has(prepared) -> None:
    rows = [_row(number, number) for number in range(NUM_PICTURES)]
    first = _words(prepared(rows, "25%").eval.samples)
    shuffled = random.Random(3).sample(rows, len(rows))
    assert _words(prepared(shuffled, "25%").eval.samples) == first
    others = {frozenset(_words(prepared(rows, "25%", seed=n).eval.samples)) for n in range(4)}
    assert len(others) > 1


def test_the_ledger_says_which_are_held_out(prepared, tmp_path: Path) -> None:
    rows = [*(_row(number, number) for number in range(NUM_PICTURES)), {"conversations": 3}]
    data = prepared(rows, "25%")
    counts = data.train.write_ledger(tmp_path / "ledger.jsonl", tmp_path / "bad.jsonl")
    assert (counts.input, counts.conversations, counts.held_out) == (9, 8, 2)
    assert (counts.epoch, counts.unused) == (6, 0)
    lines = (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    held_out = {row["row"] for row in told if row["held_out"]}
    assert held_out == set(np.flatnonzero(data.train.held_out).tolist())
    assert [row["uses_per_epoch"] for row in told if row["held_out"]] == [[0], [0]]


def test_a_few_that_belong_together_are_held_out_where_the_share_is_smaller(prepared) -> None:
    rows = [_row(number, number % 4) for number in range(16)]
    assert len(prepared(rows, "1%").eval.samples) == 4


def test_a_share_that_would_take_most_is_refused(prepared) -> None:
    with pytest.raises(ConfigError, match="the fewest that share no picture with others are 5"):
        prepared([_row(number, 0) for number in range(5)], "20%")


@pytest.mark.parametrize(
    ("share", "said"), [("0%", "greater than 0"), ("100%", "less than 1"), ("120 %", "less than 1")]
)
def test_a_share_is_between_nothing_and_all(prepared, share: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prepared([_row(0, 0)], share)
