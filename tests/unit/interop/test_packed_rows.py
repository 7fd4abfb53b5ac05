"""Packing of other tools: a step of packed rows becomes a step of as many tokens."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.errors import ConfigError

SIZES = ("tokens_per_step", "tokens_per_row", "batch_size", "gradient_accumulation")


def sizes(result: Any) -> tuple[int | None, ...]:
    """What the written run.yaml says of a step's size."""
    return tuple(result.values["training"].get(name) for name in SIZES)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        # Rows of 4096 tokens, 2 in a pass, 8 passes.
        (
            {
                "neat_packing": True,
                "cutoff_len": 4096,
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 8,
            },
            (65536, 4096, None, None),
        ),
        # Its defaults: rows of 2048, 8 in a pass, one pass.
        ({"packing": True}, (16384, 2048, None, None)),
        ({"packing": True, "gradient_accumulation_steps": 3}, (49152, 2048, None, None)),
        ({"packing": True, "ray_num_workers": 4}, (65536, 2048, None, None)),
        ({"packing": False, "neat_packing": True}, (16384, 2048, None, None)),
        ({"packing": False}, (None, None, 8, 1)),
        ({"neat_packing": False}, (None, None, 8, 1)),
        ({}, (None, None, 8, 1)),
    ],
)
def test_llamafactory(tools, keys: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    result = tools.llamafactory(**keys)
    assert sizes(result) == expected
    training = tools.loaded(result).training
    assert training.packing == "auto"
    assert (training.tokens_per_step, training.tokens_per_row) == expected[:2]


def test_llamafactory_says_where_samples_see_each_other(tools) -> None:
    [packing] = tools.rows(tools.llamafactory(packing=True), "packing")
    assert (packing.target, packing.verdict) == ("training.packing", "differs")
    assert "see each other" in packing.note
    both = tools.llamafactory(packing=True, neat_packing=True)
    assert [tools.rows(both, key)[0].verdict for key in ("packing", "neat_packing")] == [
        "carried",
        "carried",
    ]
    off = tools.llamafactory(packing=True, neat_packing=False)
    assert [tools.rows(off, key)[0].verdict for key in ("packing", "neat_packing")] == [
        "differs",
        "differs",
    ]
    [unpacked] = tools.rows(tools.llamafactory(packing=False), "packing")
    assert (unpacked.verdict, unpacked.result) == ("carried", "auto")


def test_what_a_step_is_made_of_is_said(tools) -> None:
    """Where the file does not tell how many processes there are, the note does."""
    result = tools.llamafactory(
        packing=True, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    [batch] = tools.rows(result, "per_device_train_batch_size")
    assert (batch.target, batch.result, batch.verdict) == (
        "training.tokens_per_step",
        2 * 4 * 2048,
        "differs",
    )
    assert "2 x 4 rows of 2048 tokens for one process. Multiply it" in batch.note
    [passes] = tools.rows(result, "gradient_accumulation_steps")
    assert "mean of the passes' means" in passes.note
    [_, length] = tools.rows(result, "cutoff_len")
    assert (length.target, length.result) == ("training.tokens_per_row", 2048)
    assert length.note.startswith("their default")
    [ray] = tools.rows(
        tools.llamafactory(packing=True, ray_num_workers=4), "per_device_train_batch_size"
    )
    assert ray.note.startswith("their default")
    assert "for each of 4 processes" in ray.note


@pytest.mark.parametrize(
    ("flags", "launch", "expected"),
    [
        # 16 rows in every step, where it is not told otherwise, with any number of processes.
        ("--packing true --max_length 4096", "swift sft", (65536, 4096, None, None)),
        (
            "--packing true --max_length 4096",
            "NPROC_PER_NODE=4 swift sft",
            (65536, 4096, None, None),
        ),
        (
            "--packing true --max_length 4096 --packing_length 8192 "
            "--per_device_train_batch_size 2 --gradient_accumulation_steps 3",
            "NPROC_PER_NODE=4 swift sft",
            (8192 * 2 * 3 * 4, 8192, None, None),
        ),
        (
            "--packing true --packing_length 8192 --gradient_accumulation_steps 2",
            "NNODES=2 NPROC_PER_NODE=4 swift sft",
            (8192 * 2 * 8, 8192, None, None),
        ),
        (
            "--padding_free true --per_device_train_batch_size 4 --gradient_accumulation_steps 2",
            "swift sft",
            (None, None, 4, 2),
        ),
        (
            "--packing false --packing_length 8192 --gradient_accumulation_steps 2",
            "swift sft",
            (None, None, None, 2),
        ),
        # How long a row is follows from the model.
        ("--packing true --gradient_accumulation_steps 2", "swift sft", (None, None, None, 2)),
    ],
)
def test_swift(tools, flags: str, launch: str, expected: tuple[int | None, ...]) -> None:
    result = tools.swift(flags, launch=launch)
    assert sizes(result) == expected
    training = tools.loaded(result).training
    assert training.packing == "auto"
    assert (training.tokens_per_step, training.tokens_per_row) == expected[:2]


def test_swift_says_what_the_keys_mean(tools) -> None:
    result = tools.swift("--packing true --packing_length 8192 --padding_free true")
    [packing], [free], [length] = (
        tools.rows(result, key) for key in ("packing", "padding_free", "packing_length")
    )
    for said in (packing, free):
        assert (said.target, said.result, said.verdict) == ("training.packing", "auto", "carried")
    assert (length.target, length.verdict) == ("training.tokens_per_row", "carried")
    [unused] = tools.rows(tools.swift("--packing_length 8192"), "packing_length")
    assert unused.verdict == "none"


def test_rows_without_a_length_are_said(tools) -> None:
    result = tools.swift("--packing true --per_device_train_batch_size 2")
    [batch] = tools.rows(result, "per_device_train_batch_size")
    assert (batch.target, batch.result, batch.verdict) == ("training.batch_size", 2, "differs")
    assert "set tokens_per_step and tokens_per_row" in batch.note
    [unsaid] = tools.rows(tools.swift("--packing true"), "packing")
    assert "set tokens_per_step and tokens_per_row" in unsaid.note


@pytest.mark.parametrize(
    ("flags", "launch", "expected"),
    [
        (
            "--data_flatten True --per_device_train_batch_size 4 --gradient_accumulation_steps 2",
            "torchrun --nproc_per_node=2",
            (None, None, 4, 2),
        ),
        # Rows of 4096, as tools/pack_data.py makes them.
        (
            "--data_packing True --per_device_train_batch_size 4 --gradient_accumulation_steps 2",
            "torchrun --nproc_per_node=2",
            (4096 * 4 * 2 * 2, 4096, None, None),
        ),
        (
            "--data_flatten True --data_packing True",
            "torchrun --nproc_per_node=$GPUS",
            (4096 * 8, 4096, None, None),
        ),
        ("--data_packing False", "python", (None, None, 8, 1)),
    ],
)
def test_official(tools, flags: str, launch: str, expected: tuple[int | None, ...]) -> None:
    result = tools.official(flags, launch=launch)
    assert sizes(result) == expected
    training = tools.loaded(result).training
    assert training.packing == "auto"
    assert (training.tokens_per_step, training.tokens_per_row) == expected[:2]


def test_official_says_whose_length_it_is(tools) -> None:
    result = tools.official("--data_packing True", launch="accelerate launch")
    [_, length] = tools.rows(result, "data_packing")
    assert (length.target, length.verdict) == ("training.tokens_per_row", "differs")
    assert "tools/pack_data.py" in length.note
    [batch] = tools.rows(result, "per_device_train_batch_size")
    assert "Multiply it" in batch.note
    [flat] = tools.rows(tools.official("--data_flatten True"), "data_flatten")
    assert (flat.target, flat.verdict) == ("training.packing", "carried")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"packing": "perhaps"}, ("packing", "true or false")),
        ({"neat_packing": True, "cutoff_len": 0}, ("cutoff_len", "above 0")),
        (
            {"packing": True, "per_device_train_batch_size": 0},
            ("per_device_train_batch_size", "0 is given", "above 0"),
        ),
        (
            {"packing": True, "gradient_accumulation_steps": -1},
            ("gradient_accumulation_steps", "-1 is given", "above 0"),
        ),
        ({"per_device_train_batch_size": 0}, ("per_device_train_batch_size", "batch_size")),
    ],
)
def test_wrong_values_are_refused_with_their_key(
    tools, keys: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        tools.llamafactory(**keys)
    for word in (str(tools.folder / "train.yaml"), *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--packing true --packing_length 0", ("packing_length", "above 0")),
        ("--packing true --packing_length long", ("packing_length", "'long'", "a number")),
        ("--padding_free maybe", ("padding_free", "true or false")),
        ("--packing true --max_length none", ("max_length", "'none'")),
    ],
)
def test_wrong_flags_are_refused_with_their_name(tools, flags: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        tools.swift(flags)
    for word in words:
        assert word in str(caught.value)
