"""Faults that a file or an override can have, each with its place and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import RunConfig, dump_config, example_yaml, load_config
from sightline.config.read import dump_yaml, parse_value
from sightline.errors import ConfigError

Refused = Callable[..., list[str]]
Loaded = Callable[..., RunConfig]


def test_a_section_with_nothing_below_it(refused: Refused) -> None:
    assert refused("training:\n  # epochs: 3\n") == [
        "run.yaml:5: training: nothing is given. Write what belongs below it, or remove the key."
    ]


def test_an_override_fills_a_section_with_nothing_below_it(loaded: Loaded) -> None:
    assert loaded("training:\n", "training.epochs=1").training.epochs == 1.0


def test_a_key_that_is_a_number(refused: Refused) -> None:
    assert refused("1: 2\n") == [
        "run.yaml:5: 1: a key is a word. `sightline config --explain` lists all keys."
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.epochs='3'", "'3' is given. Input should be a valid number."),
        ("training.epochs=true", "True is given. Input should be a valid number."),
        ("training.batch_size=true", "True is given. Input should be a valid integer."),
        ("training.gradient_checkpointing=1", "1 is given. Input should be a valid boolean."),
        ("output=5", "5 is given. Input should be a valid string."),
        ("output=''", "'' is given. String should have at least 1 character."),
    ],
)
def test_no_type_is_guessed(refused: Refused, override: str, problem: str) -> None:
    key = override.partition("=")[0]
    assert refused("", override) == [f"--set {override}: {key}: {problem}"]


def test_an_override_of_a_shared_anchor_changes_one_section(loaded: Loaded) -> None:
    text = "tuning: {lora: {rank: 8}}\n"
    shared = "data:\n  train: a.json\n  images: &pixels {max_pixels: 784}\n  videos: *pixels\n"
    config = loaded(text, f"data={parse_value(shared)['data']}", "data.images.max_pixels=1568")
    assert (config.data.images.max_pixels, config.data.videos.max_pixels) == (1568, 784)


def test_a_shared_anchor_in_the_file(config_file: Callable[[str], Path]) -> None:
    path = config_file(
        "model: m\noutput: o\ndata:\n  train: a.json\n"
        "  images: &pixels {max_pixels: 784}\n  videos: *pixels\n"
    )
    config = load_config(path, ["data.images.max_pixels=1568"])
    assert (config.data.images.max_pixels, config.data.videos.max_pixels) == (1568, 784)


def test_a_value_nested_too_deep_is_refused(refused: Refused) -> None:
    assert refused("", f"output={'[' * 3000}")[0].endswith("it is nested too deep.")


def test_a_home_of_nobody_is_refused(refused: Refused) -> None:
    assert refused("", "output=~nobody-of-that-name/x") == [
        "~nobody-of-that-name/x: there is no home folder of that name. Write it out."
    ]


def test_only_leading_dots_of_a_path_are_folded(loaded: Loaded, tmp_path: Path) -> None:
    """Behind a link the system decides what ".." is."""
    sources = loaded("", "data.train=[../a.json, link/../b.json]").data.train
    assert [source.path for source in sources] == [
        str(tmp_path.parent / "a.json"),
        f"{tmp_path}/link/../b.json",
    ]


def test_the_example_is_the_smallest_useful_file(config_file: Callable[[str], Path]) -> None:
    path = config_file(example_yaml())
    config = load_config(path)
    assert config.model == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert config.data.train[0].path == str(path.parent / "train.jsonl")
    assert (config.tuning.language.mode, config.tuning.projector.mode) == ("lora", "full")
    assert (config.training.epochs, config.training.learning_rate) == (3.0, 1e-4)
    assert config.output == "runs/first"


@pytest.mark.parametrize(
    "text", ["1e-4", "1e5", "-2E+3", "2026-01-31", "null", "yes", "1:30", "~x"]
)
def test_a_text_that_looks_like_something_else_is_dumped_as_a_text(text: str) -> None:
    assert parse_value(dump_yaml(text)) == text


@given(st.text(st.characters(codec="utf-8")))
def test_every_text_is_dumped_and_read_back(text: str) -> None:
    assert parse_value(dump_yaml({"name": text})) == {"name": text}


def test_a_dump_loads_back_equal_where_texts_look_like_numbers(
    loaded: Loaded, tmp_path: Path
) -> None:
    config = loaded("", "output='1e-4'", "data.train={path: a.json, name: '5e3'}")
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


def test_a_key_given_twice_in_an_override(refused: Refused) -> None:
    assert refused("", "tuning={language: lora, language: full}") == [
        "--set tuning={language: lora, language: full}: language is given twice. Keep one of them."
    ]


def test_two_keys_given_twice_are_both_named(config_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file("model: a\noutput: o\nmodel: b\noutput: p\n"))
    lines = str(caught.value).splitlines()
    assert [line.rpartition(":")[2] for line in lines if ":" in line] == [
        " model is given twice, first in line 1.",
        " output is given twice, first in line 2.",
    ]
