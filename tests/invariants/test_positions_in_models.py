"""Whatever a call leaves out, a model that follows the engine runs with the right positions."""

from __future__ import annotations

import copy

import pytest
import torch

from sightline.data import (
    Collator,
    Conversation,
    ImagePart,
    Message,
    Origin,
    ProcessorPixels,
    TextPart,
    VideoPart,
)
from sightline.errors import LayoutError
from sightline.model import follow_engine, load_weights, open_checkpoint
from sightline.positions import place_batch
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TOLERANCE = 1e-4  # fp32 noise of these models is under 1e-5; a position fault moves whole logits


class Bench:
    """A tiny model of a family with a batch maker."""

    def __init__(self, family: str, folder, data) -> None:
        self.checkpoint = open_checkpoint(str(folder))
        self.encoder = make_encoder(self.checkpoint)
        self.rule = self.checkpoint.position_rule
        self.data = data
        self.folder = str(folder)

    def plain(self):
        return load_weights(self.folder, dtype=torch.float32)

    def ours(self):
        return follow_engine(self.plain(), self.rule)

    def prompts(self, *kinds: str):
        pictures = sorted((self.data / "images").glob("*.png"))
        videos = sorted((self.data / "videos").glob("*.mp4"))
        parts = {
            "image": [ImagePart(path=pictures[0], field="image"), TextPart(text="\nWhat is it?")],
            "images": [
                ImagePart(path=pictures[1], field="image"),
                TextPart(text=" or "),
                ImagePart(path=pictures[2], field="image"),
            ],
            "video": [VideoPart(path=videos[0], field="video"), TextPart(text="\nWhich way?")],
            "text": [TextPart(text="Say a word.")],
        }
        made = []
        for kind in kinds:
            turn = Message(role="user", parts=tuple(parts[kind]), field="messages[0]")
            origin = Origin(file=self.data / "x.jsonl", line=1, index=0)
            made.append(self.encoder.encode_prompt(Conversation(messages=(turn,), origin=origin)))
        return made

    def batch(self, *kinds: str):
        collator = Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=self.rule,
            pad_token_id=0,
            padding_side="left",
        )
        batch = collator(self.prompts(*kinds))
        del batch["labels"]
        return batch


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def bench(request, tiny_folder, shapes_folder) -> Bench:
    return Bench(request.param, tiny_folder(request.param), shapes_folder)


def _logits(model, batch, **changes):
    with torch.no_grad():
        return model(**(batch | changes)).logits


def _steps(model, batch, **changes):
    """Logits of five greedy steps."""
    with torch.no_grad():
        made = model.generate(
            **(batch | changes),
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(made.logits)


@pytest.mark.parametrize("kind", ["image", "images", "video", "text"])
def test_forward_without_positions_equals_explicit_positions(bench: Bench, kind: str) -> None:
    batch = bench.batch(kind)
    bare = {key: value for key, value in batch.items() if key != "position_ids"}
    ours = bench.ours()
    torch.testing.assert_close(_logits(ours, bare), _logits(ours, batch), rtol=0, atol=TOLERANCE)


def test_one_dimensional_positions_would_be_seen(bench: Bench) -> None:
    """The planted fault: text positions on all axes move the logits by far more."""
    batch = bench.batch("images")
    flat = torch.arange(batch["input_ids"].shape[1]).expand(4, 1, -1)
    model = bench.plain()
    gap = (_logits(model, batch) - _logits(model, batch, position_ids=flat)).abs().max()
    assert gap > 100 * TOLERANCE


@pytest.mark.parametrize("kind", ["image", "video"])
def test_generate_without_token_types_uses_the_grids(bench: Bench, kind: str) -> None:
    """Plain generate falls back to 1-D positions when mm_token_type_ids is missing."""
    batch = bench.batch(kind)
    bare = {key: value for key, value in batch.items() if key != "position_ids"}
    explicit = _steps(bench.plain(), batch)
    torch.testing.assert_close(_steps(bench.ours(), bare), explicit, rtol=0, atol=TOLERANCE)
    assert (_steps(bench.plain(), bare) - explicit).abs().max() > 100 * TOLERANCE


def test_a_padded_batch_answers_like_each_alone(bench: Bench) -> None:
    kinds = ("image", "text", "video", "images")
    model = bench.ours()
    together = _steps(model, bench.batch(*kinds))
    for row, kind in enumerate(kinds):
        alone = _steps(model, bench.batch(kind))
        torch.testing.assert_close(together[:, row], alone[:, 0], rtol=0, atol=TOLERANCE)


def test_an_earlier_call_leaves_nothing_behind(bench: Bench) -> None:
    model, batch = bench.ours(), bench.batch("image")
    before = _steps(model, batch)
    _steps(model, bench.batch("video"))
    model.model.rope_deltas = torch.full((1, 1), 1234)
    torch.testing.assert_close(_steps(model, batch), before, rtol=0, atol=TOLERANCE)


def test_a_copy_runs_with_its_own_weights(bench: Bench) -> None:
    """A method bound to the first model would compute with the first model's weights."""
    model, batch = bench.ours(), bench.batch("image")
    before = _logits(model, batch)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.lm_head.weight.mul_(2.0)
    torch.testing.assert_close(_logits(copied, batch), 2 * before, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(_steps(copied, batch)[0], 2 * before[:, -1], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(_logits(model, batch), before, rtol=0, atol=TOLERANCE)


def test_cached_decoding_by_hand_needs_positions(bench: Bench) -> None:
    model, batch = bench.ours(), bench.batch("image")
    with torch.no_grad():
        cache = model(**batch, use_cache=True).past_key_values
        with pytest.raises(LayoutError, match="cached tokens and without position_ids"):
            model(input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_flat_positions_and_bare_embeddings_are_refused(bench: Bench) -> None:
    model, batch = bench.ours(), bench.batch("image")
    length = batch["input_ids"].shape[1]
    with pytest.raises(LayoutError, match=r"shape \(1, \d+\)"):
        model(**(batch | {"position_ids": torch.arange(length)[None]}))
    with pytest.raises(LayoutError, match="inputs_embeds and without position_ids"):
        model(inputs_embeds=torch.zeros(1, 4, 64))


def test_the_collator_and_the_call_agree_on_positions(bench: Bench) -> None:
    batch = bench.batch("video", "image")
    placed = place_batch(
        batch["input_ids"],
        bench.rule,
        attention_mask=batch["attention_mask"],
        image_grid_thw=batch["image_grid_thw"],
        video_grid_thw=batch["video_grid_thw"],
        second_per_grid_ts=batch.get("second_per_grid_ts"),
    )
    assert torch.equal(placed.model_position_ids, batch["position_ids"])
