"""The key that was meant."""

from __future__ import annotations

import pytest

from sightline.config.suggest import in_schema, suggestion

NONE = "`sightline config --explain` lists all keys."


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("training.learning_rat", "training.learning_rate"),
        ("training.lora", "tuning.lora"),
        ("training.vision_learning_rate", "tuning.vision.learning_rate"),
        ("ouput", "output"),
        ("data.trian", "data.train"),
        ("data.image", "data.images"),
        ("data.train[0].pth", "data.train.path"),
        ("training.epoch", "training.epochs"),
    ],
)
def test_the_key_that_was_meant(written: str, meant: str) -> None:
    assert suggestion(written) == f"Did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("lora_rank", "tuning.lora.rank"), ("num_train_epochs", "training.epochs")],
)
def test_a_key_of_a_tool_with_one_flat_list(written: str, meant: str) -> None:
    assert suggestion(written) == f"Did you mean `{meant}`?"


def test_the_nearer_of_two_sections_is_named_first() -> None:
    assert suggestion("learning_rate") == (
        "Did you mean `training.learning_rate` or `tuning.language.learning_rate`?"
    )
    assert suggestion("tuning.rank") == (
        "Did you mean `tuning.lora.rank` or `tuning.language.rank`?"
    )


def test_a_key_of_two_sections_names_both() -> None:
    assert suggestion("data.max_pixels") == (
        "Did you mean `data.images.max_pixels` or `data.videos.max_pixels`?"
    )


@pytest.mark.parametrize("written", ["xyzzy", "training.foo", "lr", ""])
def test_nothing_is_suggested_for_what_is_like_nothing(written: str) -> None:
    assert suggestion(written) == NONE


def test_an_index_is_no_part_of_a_key() -> None:
    assert in_schema("data.train[12].tags.role_tag") == "data.train.tags.role_tag"
