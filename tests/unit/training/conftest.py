"""A tiny model as a run would train it, with samples of unequal length and both collators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.config import Source
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.data.blanks import Blanks
from sightline.model import (
    attend_by_segments,
    follow_engine,
    load_weights,
    open_checkpoint,
    return_losses,
)
from sightline.preparation import make_encoder

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


class StartBench:
    """A tiny model that attends by segments, and samples with pictures of unequal size."""

    def __init__(self, folder: str, data: Path) -> None:
        self.checkpoint = open_checkpoint(folder)
        encoder = make_encoder(self.checkpoint)
        source = Source(path=str(data / "train.jsonl"))
        self.samples: list[EncodedSample] = [encoder.encode(one) for one in read_source(source)][:4]
        model = load_weights(folder, dtype=torch.float32)
        attend_by_segments(model, self.checkpoint.family)
        follow_engine(model, self.checkpoint.position_rule)
        self.model: Any = return_losses(model)

    def collator(self, *, packs: bool) -> Collator:
        """The run's collator, or one that pads."""
        rule = self.checkpoint.position_rule
        return Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=rule,
            pad_token_id=0,
            packs=packs,
            blanks=Blanks(rule, self.checkpoint.preprocessing, takes_raw=False, filler=0),
        )


@pytest.fixture(params=FAMILIES)
def bench(request, tiny_folder, shapes_folder) -> StartBench:
    """One a family."""
    return StartBench(str(tiny_folder(request.param)), shapes_folder)
