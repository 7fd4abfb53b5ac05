"""Every key is explained, and explained as it is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sightline.config import TOWER_NAMES, Row, RunConfig, explain, key_names
from sightline.config.explain import fields, section_of

FULL = RunConfig.model_validate(
    {
        "model": "m",
        "output": "o",
        "data": {
            "train": [{"path": "a", "columns": {}, "tags": {}}],
            "eval": [{"path": "b", "columns": {}, "tags": {}}],
        },
    }
)


def _leaves(value: Any, prefix: str = "") -> list[str]:
    """Keys of a dumped configuration, lists of mappings as ``name[]``."""
    names = []
    for name, inner in value.items():
        if isinstance(inner, dict):
            names += _leaves(inner, f"{prefix}{name}.")
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            names += _leaves(inner[0], f"{prefix}{name}[].")
        else:
            names.append(f"{prefix}{name}")
    return names


def _plain(name: str) -> str:
    return name.replace("[]", "")


def _row(key: str) -> Row:
    return next(row for row in explain() if row.key == key)


def _shown_once(keys: list[str]) -> list[str]:
    """Keys of a section that comes a second time give way to the section's name."""
    again = [f"tuning.{tower}" for tower in ("projector", "vision", "embeddings", "head")]
    again += [f"tuning.stages[].{tower}" for tower in TOWER_NAMES] + ["data.eval"]
    shown: dict[str, None] = {}
    for key in keys:
        inside = [one for one in again if key == one or key.startswith((f"{one}.", f"{one}[]."))]
        shown[inside[0] if inside else key] = None
    return list(shown)


def test_the_rows_are_the_keys_of_a_configuration() -> None:
    keys = [row.key for row in explain()]
    in_schema = [name for name, field in fields().items() if section_of(field.annotation) is None]
    # The language tower stands for all towers: a word, or what stands below it.
    in_schema.insert(in_schema.index("tuning.language.mode"), "tuning.language")
    assert keys == _shown_once(in_schema)
    dumped = _shown_once(_leaves(FULL.model_dump()))
    assert set(dumped) - {"tuning.stages"} <= set(keys)


def test_every_key_has_a_meaning_that_is_a_sentence() -> None:
    for row in explain():
        assert row.meaning, row.key
        assert row.meaning[0].isupper() or row.meaning.split()[0].strip(":") in row.type, row
        assert row.meaning.endswith("."), row
        assert row.type, row
        assert row.default, row


def test_numbers_that_count_something_have_a_unit() -> None:
    counted = ("_pixels", "_frames", "_steps", "_tokens", "max_length", "_every", "batch_size")
    for row in explain():
        if row.key.endswith(counted):
            assert row.unit, row.key


@pytest.mark.parametrize(
    ("key", "type_", "default", "unit"),
    [
        ("model", "text", "required", ""),
        ("data.train[].path", "text | null", "null", ""),
        (
            "data.train[].format",
            "official | sharegpt | alpaca | openai | swift | coco | yolo | voc | null",
            "null",
            "",
        ),
        ("data.train[].columns.messages", "text | null", "conversations", ""),
        ("data.train[].tags.role_tag", "text | null", "from", ""),
        ("data.eval", "as data.train", "[]", ""),
        ("data.max_length", "whole number | null", "null", "tokens"),
        ("data.images.max_pixels", "whole number | null", "null", "pixels an image"),
        ("data.videos.fps", "number | null", "2", "1/s"),
        ("tuning.language", "freeze | lora | full | mapping", "lora", ""),
        ("tuning.language.rank", "whole number | null", "null", ""),
        ("tuning.projector", "as tuning.language", "full", ""),
        ("tuning.stages[].vision", "as tuning.language", "null", ""),
        ("tuning.lora.alpha", "whole number", "32", ""),
        ("training.learning_rate", "number", "0.0001", ""),
        ("training.gradient_checkpointing", "true | false", "true", ""),
        ("data.train[].url_hosts", "list of text", "[]", ""),
        ("verify.logits_tolerance", "number", "0.001", ""),
    ],
)
def test_rows_say_type_default_and_unit(key: str, type_: str, default: str, unit: str) -> None:
    assert _row(key)[:4] == (key, type_, default, unit)


def test_a_meaning_is_the_one_of_the_schema() -> None:
    assert _row("tuning.embeddings").meaning == "Token embedding."
    assert _row("training.save_every").meaning == (
        "Write a checkpoint; null is the end of every epoch."
    )


def test_key_names_hold_sections_and_keys() -> None:
    names = key_names()
    assert len(names) == len(set(names))
    for name in ("data", "data.train", "tuning.lora", "tuning.lora.rank"):
        assert name in names
    assert {_plain(row.key) for row in explain()} <= {_plain(name) for name in names}


def test_reading_a_configuration_needs_no_torch_and_no_numpy() -> None:
    code = (
        "import sys, sightline.config, sightline.records\n"
        "heavy = {'torch', 'numpy', 'transformers', 'peft', 'PIL', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"
