"""D01 to D08, D25, D27 and D28: each happens without the engine, and not with it.

Every test shows the trap on the plain model first. Where that part fails, a newer transformers
has mended it, and the guard's words about it can go.
"""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import DynamicCache

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
from sightline.positions import get_rope_index, place_batch, placeholder_kinds
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TOLERANCE = 1e-4  # fp32 noise of these models is under 1e-5; a position fault moves whole logits
VISIBLE = 100 * TOLERANCE


class Bench:
    """A tiny model of a family, plain and with the engine, and prompts for it."""

    def __init__(self, family: str, folder, data) -> None:
        self.checkpoint = open_checkpoint(str(folder))
        self.rule = self.checkpoint.position_rule
        self.encoder = make_encoder(self.checkpoint)
        self.data, self.folder = data, str(folder)
        self.plain = load_weights(self.folder, dtype=torch.float32)
        self.ours = follow_engine(load_weights(self.folder, dtype=torch.float32), self.rule)

    def conversation(self, *turns: tuple[str, str]):
        pictures = sorted((self.data / "images").glob("*.png"))
        videos = sorted((self.data / "videos").glob("*.mp4"))
        made = []
        for number, (kind, words) in enumerate(turns):
            parts: list = [TextPart(text=words)]
            if kind == "image":
                parts.insert(0, ImagePart(path=pictures[number % len(pictures)], field="image"))
            elif kind == "video":
                parts.insert(0, VideoPart(path=videos[0], field="video"))
            role = "assistant" if kind == "answer" else "user"
            made.append(Message(role=role, parts=tuple(parts), field=f"messages[{number}]"))
        origin = Origin(file=self.data / "x.jsonl", line=1, index=0)
        return Conversation(messages=tuple(made), origin=origin)

    def batch(self, *conversations, side="left", keep_positions=False):
        collator = Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=self.rule,
            pad_token_id=0,
            padding_side=side,
        )
        batch = collator([self.encoder.encode_prompt(each) for each in conversations])
        del batch["labels"]
        if not keep_positions:
            del batch["position_ids"]
        return batch

    def prompt(self, kind: str):
        return self.batch(self.conversation((kind, "\nWhat is it?")))

    def with_types(self, batch):
        kinds = placeholder_kinds(batch["input_ids"].numpy(), self.rule)
        return batch | {"mm_token_type_ids": torch.from_numpy(kinds).int()}

    def placed(self, batch):
        keys = ("attention_mask", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
        return place_batch(
            batch["input_ids"], self.rule, **{key: batch.get(key) for key in keys}
        ).model_position_ids

    def video_call(self, seconds: float = 1.0):
        """A call with a video longer than its sides, random pixels, and text after it."""
        grid, rule = (12, 4, 4), self.rule
        frame = [rule.video_token_id] * 4
        spans = rule.rope.temporal_rule == "frame_per_span"
        video = [token for _ in range(12) for token in ([5, 6] if spans else []) + frame]
        vision = self.checkpoint.config.vision_config
        size = 3 * vision.temporal_patch_size * vision.patch_size**2
        generator = torch.Generator().manual_seed(1)
        batch = {
            "input_ids": torch.tensor([[7, 8, *video, 9, 10, 11, 12]]),
            "pixel_values_videos": torch.randn(12 * 4 * 4, size, generator=generator),
            "video_grid_thw": torch.tensor([grid]),
        }
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        if rule.rope.temporal_rule == "seconds":
            batch["second_per_grid_ts"] = torch.tensor([seconds])
        return batch


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def bench(request, tiny_folder, shapes_folder) -> Bench:
    return Bench(request.param, tiny_folder(request.param), shapes_folder)


def _steps(model, batch, *, count: int = 5, **changes):
    """(count, rows, vocabulary): logits of greedy steps."""
    with torch.no_grad():
        made = model.generate(
            **(batch | changes),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(made.logits)


def _logits(model, batch, **changes):
    with torch.no_grad():
        return model(**(batch | changes)).logits


def _gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_d01_text_after_a_long_video(bench: Bench) -> None:
    batch = bench.video_call()
    explicit = _logits(bench.plain, batch, position_ids=bench.placed(batch))
    theirs = _logits(bench.plain, bench.with_types(batch))
    assert _gap(_logits(bench.ours, batch), explicit) < TOLERANCE
    if bench.rule.rope.temporal_rule == "frame_per_span":
        assert _gap(theirs, explicit) < TOLERANCE
    else:
        assert _gap(theirs, explicit) > VISIBLE


def test_d02_cached_decoding_goes_on_where_the_forward_pass_is(bench: Bench) -> None:
    batch = bench.video_call()
    whole = _logits(bench.ours, batch)[0, -1]
    steps = _steps(bench.ours, batch, count=4)
    assert _gap(steps[0, 0], whole) < TOLERANCE
    ids = torch.cat([batch["input_ids"], steps[:3, 0].argmax(-1)[None]], dim=1)
    longer = batch | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert _gap(_logits(bench.ours, longer)[0, -1], steps[3, 0]) < TOLERANCE
    if bench.rule.rope.temporal_rule != "frame_per_span":
        # Without: the delta of the plain class is not that of its own published rule.
        _, delta = bench.plain.model.get_rope_index(
            **{k: v for k, v in bench.with_types(batch).items() if not k.startswith("pixel")}
        )
        assert int(delta) != int(bench.placed(batch).max()) + 1 - batch["input_ids"].shape[1]


def test_d03_forward_without_token_types(bench: Bench) -> None:
    batch = bench.prompt("image")
    explicit = _logits(bench.plain, batch, position_ids=bench.placed(batch))
    if bench.rule.rope.temporal_rule == "seconds":
        assert _gap(_logits(bench.plain, batch), explicit) > VISIBLE
    else:  # these classes ask for them
        with pytest.raises(ValueError, match="mm_token_type_ids"):
            _logits(bench.plain, batch)
    assert _gap(_logits(bench.ours, batch), explicit) < TOLERANCE


@pytest.mark.parametrize("kind", ["image", "video"])
def test_d04_generate_without_token_types(bench: Bench, kind: str) -> None:
    batch = bench.prompt(kind)
    explicit = _steps(bench.plain, batch, position_ids=bench.placed(batch))
    assert _gap(_steps(bench.plain, batch), explicit) > VISIBLE
    assert _gap(_steps(bench.ours, batch), explicit) < TOLERANCE


def test_d05_decoding_by_hand_after_another_sample(bench: Bench) -> None:
    batch = bench.prompt("image")
    placed, length = bench.placed(batch), batch["input_ids"].shape[1]
    token = torch.tensor([[5]])
    following = placed[:, :, -1:] + 1

    def decode(model, **changes):
        with torch.no_grad():
            cache = model(**batch, position_ids=placed, use_cache=True).past_key_values
            assert cache.get_seq_length() == length
            return model(input_ids=token, past_key_values=cache, **changes).logits

    bench.plain.model.rope_deltas = torch.tensor([[40]])  # another sample's
    right = decode(bench.plain, position_ids=following)
    assert _gap(decode(bench.plain), right) > VISIBLE
    with pytest.raises(LayoutError, match=f"{length} cached tokens and without position_ids"):
        decode(bench.ours)
    bench.ours.model.rope_deltas = torch.tensor([[40]])
    assert _gap(decode(bench.ours, position_ids=following), right) < TOLERANCE


def _first_turn(bench: Bench, model):
    """A kept cache after one turn with an image, the answer included."""
    batch = bench.prompt("image") | {"position_ids": bench.placed(bench.prompt("image"))}
    with torch.no_grad():
        return model(**batch, past_key_values=DynamicCache(), use_cache=True).past_key_values


def _second_turn(bench: Bench, kind: str):
    return bench.batch(
        bench.conversation(("image", "\nWhat is it?"), ("answer", "A red ring."), (kind, "Why?"))
    )


def test_d06_a_conversation_goes_on_after_another_sample(bench: Bench) -> None:
    batch = _second_turn(bench, "text")
    fresh = _steps(bench.plain, batch, position_ids=bench.placed(batch))
    ours_cache, plain_cache = _first_turn(bench, bench.ours), _first_turn(bench, bench.plain)
    for model in (bench.ours, bench.plain):
        model.model.rope_deltas = torch.tensor([[40]])  # another sample's
    assert _gap(_steps(bench.ours, batch, past_key_values=ours_cache), fresh) < TOLERANCE
    text = {key: batch[key] for key in ("input_ids", "attention_mask")}
    assert _gap(_steps(bench.plain, text, past_key_values=plain_cache), fresh) > VISIBLE


def test_d07_one_token_with_a_full_mask_and_a_cache(bench: Bench) -> None:
    batch = bench.prompt("image")
    placed = bench.placed(batch)
    call = {
        "input_ids": torch.tensor([[5]]),
        "attention_mask": torch.ones(1, batch["input_ids"].shape[1] + 1, dtype=torch.long),
    }
    with torch.no_grad():
        bench.plain.model.rope_deltas = torch.tensor([[0]])
        with pytest.raises(RuntimeError):
            bench.plain(**call, past_key_values=_first_turn(bench, bench.plain))
        with pytest.raises(LayoutError, match="Pass position_ids"):
            bench.ours(**call, past_key_values=_first_turn(bench, bench.ours))
        following = placed[:, :, -1:] + 1
        cache = _first_turn(bench, bench.ours)
        one = bench.ours(**call, past_key_values=cache, position_ids=following).logits
    whole = torch.cat([batch["input_ids"], call["input_ids"]], dim=1)
    longer = batch | {"input_ids": whole, "attention_mask": call["attention_mask"]}
    assert _gap(one[0, -1], _logits(bench.ours, longer)[0, -1]) < TOLERANCE


@pytest.mark.parametrize("given", ["all pixels", "new pixels"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_d08_a_new_picture_in_a_later_turn(bench: Bench, kind: str, given: str) -> None:
    batch = _second_turn(bench, kind)
    fresh = _steps(bench.plain, batch, position_ids=bench.placed(batch))
    if given == "new pixels":
        first = int(batch["image_grid_thw"][0].prod())
        batch["pixel_values"] = batch["pixel_values"][first:]
        if kind == "video":
            del batch["pixel_values"]
    if kind == "image":
        typed = bench.with_types(batch)
        with pytest.raises((ValueError, RuntimeError, StopIteration, IndexError)):
            _steps(bench.plain, typed, past_key_values=_first_turn(bench, bench.plain))
    cache = _first_turn(bench, bench.ours)
    bench.ours.model.rope_deltas = torch.tensor([[40]])
    assert _gap(_steps(bench.ours, batch, past_key_values=cache), fresh) < TOLERANCE


def test_d08_pixels_that_are_neither_all_nor_new_are_refused(bench: Bench) -> None:
    batch = _second_turn(bench, "image")
    batch["pixel_values"] = batch["pixel_values"][:-4]
    with pytest.raises(LayoutError, match=r"pixel_values holds \d+ patches"):
        _steps(bench.ours, batch, past_key_values=_first_turn(bench, bench.ours))


def test_d25_seconds_per_grid_left_out(bench: Bench) -> None:
    batch = bench.video_call(seconds=0.5)
    if bench.rule.rope.temporal_rule != "seconds":  # nothing to leave out
        assert "second_per_grid_ts" not in batch
        explicit = _logits(bench.plain, batch, position_ids=bench.placed(batch))
        assert _gap(_logits(bench.ours, batch), explicit) < TOLERANCE
        return
    bare = {key: value for key, value in batch.items() if key != "second_per_grid_ts"}
    right = _logits(bench.plain, bench.with_types(batch))
    assert _gap(_logits(bench.plain, bench.with_types(bare)), right) > VISIBLE
    for call in (_logits, _steps):
        with pytest.raises(LayoutError, match="1 videos but no second_per_grid_ts"):
            call(bench.ours, bare)


def test_d27_generate_on_padding_to_the_right(bench: Bench) -> None:
    short, long = bench.conversation(("text", "Hi")), bench.conversation(("image", "\nWhat is it?"))
    left = bench.batch(short, long, keep_positions=True)
    right = bench.batch(short, long, side="right", keep_positions=True)
    assert _gap(_steps(bench.plain, right), _steps(bench.plain, left)) > VISIBLE
    del right["position_ids"]
    with pytest.raises(LayoutError, match="row 0 padded on the right"):
        _steps(bench.ours, right)


def test_d28_embeddings_in_the_place_of_ids(bench: Bench) -> None:
    batch = bench.prompt("image")
    explicit = _logits(bench.plain, batch, position_ids=bench.placed(batch))
    with torch.no_grad():
        embeds = bench.plain.get_input_embeddings()(batch["input_ids"])
        features = bench.plain.model.get_image_features(
            batch["pixel_values"], batch["image_grid_thw"]
        )
        images = torch.cat(list(features.pooler_output))
        embeds[batch["input_ids"] == bench.rule.image_token_id] = images
        bench.plain.model.rope_deltas = None
        flat = bench.plain(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).logits
    assert _gap(flat, explicit) > VISIBLE
    with pytest.raises(LayoutError, match="inputs_embeds and without position_ids"):
        bench.ours(inputs_embeds=embeds, attention_mask=batch["attention_mask"])
    with pytest.raises(LayoutError, match="inputs_embeds alone"):
        bench.ours.generate(inputs_embeds=embeds, max_new_tokens=2)


def test_beams_and_several_answers_follow_the_engine(bench: Bench) -> None:
    batch = bench.batch(
        bench.conversation(("image", "\nWhat is it?")), bench.conversation(("text", "Say a word."))
    )
    settings = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5, "do_sample": False}
    with torch.no_grad():
        right = bench.plain.generate(**batch, position_ids=bench.placed(batch), **settings)
        bench.ours.model.rope_deltas = torch.tensor([[40]])
        assert torch.equal(bench.ours.generate(**batch, **settings), right)


def test_the_drop_in_mends_the_plain_class(bench: Bench, tiny_folder) -> None:
    """`get_rope_index` in the place of the model's own: plain transformers serves videos right."""
    model = load_weights(bench.folder, dtype=torch.float32)
    model.model.get_rope_index = functools.partial(get_rope_index, rule=bench.rule)
    batch = bench.video_call()
    explicit = _steps(bench.plain, batch, position_ids=bench.placed(batch))
    assert _gap(_steps(model, bench.with_types(batch)), explicit) < TOLERANCE


def test_a_packed_row_computes_what_its_samples_compute_alone(bench: Bench) -> None:
    prompts = [bench.prompt("image"), bench.prompt("text"), bench.prompt("video")]
    ids = torch.cat([each["input_ids"] for each in prompts], dim=1)
    lengths = [each["input_ids"].shape[1] for each in prompts]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    media: dict = {}
    for each in prompts:
        for key in each.keys() - {"input_ids", "attention_mask"}:
            media.setdefault(key, []).append(each[key])
    media = {key: torch.cat(values) for key, values in media.items()}
    grids = {key: value for key, value in media.items() if not key.startswith("pixel")}
    placed = place_batch(ids, bench.rule, cu_seqlens=bounds, **grids).model_position_ids
    packed = _logits(bench.ours, {"input_ids": ids, **media}, position_ids=placed, use_cache=False)
    alone = torch.cat([_logits(bench.ours, each) for each in prompts], dim=1)
    assert _gap(packed, alone) < TOLERANCE
    leaking = _logits(
        bench.plain, {"input_ids": ids, **media}, position_ids=placed[1:], use_cache=False
    )
    assert _gap(leaking, alone) > VISIBLE
    with pytest.raises(LayoutError, match="without a text row"):
        _logits(bench.ours, {"input_ids": ids, **media}, position_ids=placed[1:], use_cache=False)
