"""The collator refuses a batch that the model would place elsewhere, and names file and line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sightline.data import (
    Collator,
    Conversation,
    ImagePart,
    Message,
    Origin,
    ProcessorPixels,
    TextPart,
)
from sightline.errors import LayoutError
from sightline.model import open_checkpoint
from sightline.preparation import make_encoder


@pytest.fixture
def sample(tiny_folder, shapes_folder):
    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")))
    picture = sorted((shapes_folder / "images").glob("*.png"))[0]
    parts = (ImagePart(path=picture, field="image"), TextPart(text="What is it?"))
    turn = Message(role="user", parts=parts, field="messages[0]")
    origin = Origin(file=shapes_folder / "mine.jsonl", line=7, index=6)
    encoder = make_encoder(checkpoint)
    made = encoder.encode_prompt(Conversation(messages=(turn,), origin=origin))
    return made, Collator(
        pixels=ProcessorPixels(checkpoint.processor), rule=checkpoint.position_rule, pad_token_id=0
    )


def test_a_sample_whose_placeholders_were_cut(sample) -> None:
    made, collate = sample
    first = int(np.flatnonzero(made.input_ids == collate._rule.image_token_id)[0])
    ids = made.input_ids.copy()
    ids[first] = 5
    with pytest.raises(LayoutError, match=r"mine\.jsonl:7.*placeholders, but the grid"):
        collate([made, replace(made, input_ids=ids)])


def test_a_sample_whose_layout_is_flat(sample) -> None:
    """The planted fault: a layout that calls everything text gives 1-D positions."""
    from sightline.positions import Layout, text_span

    made, collate = sample
    flat = replace(made, layout=Layout(spans=(text_span(made.num_tokens),)))
    with pytest.raises(LayoutError, match=r"mine\.jsonl:7.*1-D positions on \d+ vision tokens"):
        collate([flat])
    collate([made])
