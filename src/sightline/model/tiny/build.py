"""Tiny models: the real classes, small and random, as an ordinary Hugging Face folder.

The code that loads them is the code that loads the 72B model. Nothing is downloaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig

from sightline.errors import ModelError
from sightline.model.tiny.configs import make_config
from sightline.model.tiny.processor import make_processor
from sightline.model.tiny.template import chat_template
from sightline.model.tiny.tokenizer import make_tokenizer
from sightline.records import atomic_directory

TINY_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def make_tiny_model(
    family: str,
    directory: Path,
    *,
    seed: int = 0,
    tied: bool = False,
    corpus: Sequence[str] | None = None,
) -> Path:
    """Make a tiny random model with its processor.

    Args:
        family: Family key.
        directory: Where the folder appears, whole or not at all.
        seed: Same seed, same bytes.
        tied: Whether head and token embedding share their weights.
        corpus: Texts that the tokenizer learns its merges from; None for texts about shapes.

    Returns:
        The folder.

    Raises:
        ModelError: The family is not known, or the folder holds something.
    """
    if family not in TINY_FAMILIES:
        near = difflib.get_close_matches(family, TINY_FAMILIES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ModelError(f"{family!r}: tiny families are {', '.join(TINY_FAMILIES)}.{hint}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(f"{directory}: the folder is not empty. Choose another.")
    template = chat_template(family)
    tokenizer = make_tokenizer(family, template, corpus)
    config = make_config(family, tokenizer, tied=tied)
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
        make_processor(family, tokenizer, template).save_pretrained(str(building))
    return directory
