"""Tiny models: the real classes, small and random, as an ordinary Hugging Face folder.

The code that loads them is the code that loads the 72B model. Nothing is downloaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig, PretrainedConfig

from sightline.errors import ModelError
from sightline.model.tiny.configs import qwen2_5_vl_config, qwen2_vl_config, qwen3_vl_config
from sightline.model.tiny.processor import (
    qwen2_5_vl_processor,
    qwen2_vl_processor,
    qwen3_vl_processor,
)
from sightline.model.tiny.template import QWEN2_TEMPLATE, QWEN3_TEMPLATE
from sightline.model.tiny.tokenizer import (
    PLAIN_TOKENS_OF_QWEN2,
    PLAIN_TOKENS_OF_QWEN2_5,
    PLAIN_TOKENS_OF_QWEN3,
    make_tokenizer,
)
from sightline.records import atomic_directory


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """What differs between families."""

    config: Callable[..., PretrainedConfig]
    processor: Callable[..., Any]
    template: str
    plain_tokens: tuple[str, ...]


_RECIPES = {
    "qwen2_vl": _Recipe(
        config=qwen2_vl_config,
        processor=qwen2_vl_processor,
        template=QWEN2_TEMPLATE,
        plain_tokens=PLAIN_TOKENS_OF_QWEN2,
    ),
    "qwen2_5_vl": _Recipe(
        config=qwen2_5_vl_config,
        processor=qwen2_5_vl_processor,
        template=QWEN2_TEMPLATE,
        plain_tokens=PLAIN_TOKENS_OF_QWEN2_5,
    ),
    "qwen3_vl": _Recipe(
        config=qwen3_vl_config,
        processor=qwen3_vl_processor,
        template=QWEN3_TEMPLATE,
        plain_tokens=PLAIN_TOKENS_OF_QWEN3,
    ),
}

TINY_FAMILIES: tuple[str, ...] = tuple(_RECIPES)


def make_tiny_model(
    family: str,
    directory: str | Path,
    *,
    seed: int = 0,
    tied: bool = False,
    corpus: Sequence[str] | None = None,
) -> Path:
    """Make a tiny random model with its processor.

    Args:
        family: Family key, one of `TINY_FAMILIES`.
        directory: Where the folder appears, whole or not at all.
        seed: Same seed, same bytes.
        tied: Whether head and token embedding share their weights.
        corpus: Texts that the tokenizer learns its merges from; None for texts about shapes.

    Returns:
        The folder.

    Raises:
        ModelError: The family is not known, or the folder holds something.
    """
    recipe = _recipe(family)
    # A link or a relative name like `.` cannot be renamed over; its target can.
    directory = Path(directory).resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(f"{directory}: the folder is not empty. Choose another.")
    tokenizer = make_tokenizer(recipe.plain_tokens, recipe.template, corpus)
    config = recipe.config(tokenizer, tied=tied)
    # A generator of its own: making a model must not move the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    stops = [tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=stops, pad_token_id=stops[1]
    )
    with atomic_directory(directory, replace=True) as building:
        model.save_pretrained(str(building))
        recipe.processor(tokenizer, recipe.template).save_pretrained(str(building))
    return directory


def _recipe(family: str) -> _Recipe:
    if family in _RECIPES:
        return _RECIPES[family]
    near = difflib.get_close_matches(family, TINY_FAMILIES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ModelError(f"{family!r}: tiny families are {', '.join(TINY_FAMILIES)}.{hint}")
