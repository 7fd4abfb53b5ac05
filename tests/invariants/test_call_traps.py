"""D09 to D11, D13, D14, D22, D23 and what is kept on a module: each happens in plain transformers.

A model that follows the engine refuses the call, or is not touched by it. Every test shows the
trap on the plain model first. Where that part fails, a newer transformers has mended it, and the
refusal can go.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.config import Source
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.errors import LayoutError, ModelError
from sightline.model import follow_engine, load_weights, open_checkpoint
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TOLERANCE = 1e-4  # fp32 noise of these models is under 2e-5; each trap moves whole logits
VISIBLE = 1.0
MENDED = "plain transformers does not do this any more: the trap is mended upstream"

Batch = dict[str, torch.Tensor]


class Bench:
    """A tiny model, plain and with the engine, and samples with a picture and with a video."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = str(folder)
        self.checkpoint = open_checkpoint(self.folder)
        self.rule = self.checkpoint.position_rule
        encoder = make_encoder(self.checkpoint)
        read = [encoder.encode(one) for one in read_source(Source(path=str(data / "train.jsonl")))]
        picture = next(one for one in read if one.images and not one.videos)
        video = next(one for one in read if one.videos and not one.images)
        self.samples = {"image": picture, "video": video}
        self.prompts = {
            kind: encoder.encode_prompt(one.conversation) for kind, one in self.samples.items()
        }

    def model(self, *, follows: bool, **settings: Any) -> Any:
        model = load_weights(self.folder, dtype=torch.float32)
        if settings:
            model.set_attn_implementation(settings["attention"])
        return follow_engine(model, self.rule) if follows else model

    def batch(self, *samples: EncodedSample, packs: bool = False) -> Batch:
        collator = Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=self.rule,
            pad_token_id=0,
            padding_side="left",
            packs=packs,
        )
        batch = collator(samples)
        for key in ("labels", "cu_seqlens"):
            batch.pop(key, None)
        return batch


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def bench(
    request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path], shapes_folder: Path
) -> Bench:
    return Bench(tiny_folder(request.param), shapes_folder)


def _logits(model: Any, batch: Batch, **changes: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**(batch | changes)).logits


def _steps(model: Any, batch: Batch) -> torch.Tensor:
    """Logits of five greedy steps."""
    with torch.no_grad():
        made = model.generate(
            **batch,
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(made.logits)


def _gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


class Row:
    """A packed row, its samples alone, and what each call makes of it."""

    def __init__(self, bench: Bench) -> None:
        samples = list(bench.samples.values())
        self.plain, self.ours = bench.model(follows=False), bench.model(follows=True)
        self.batch = bench.batch(*samples, packs=True)
        alone = [_logits(self.plain, bench.batch(one), use_cache=False) for one in samples]
        self.alone = torch.cat(alone, dim=1)
        self.length = self.batch["input_ids"].shape[1]
        self.first = samples[0].num_tokens

    def leaks(self, refusal: str, **call: Any) -> None:
        """The call runs and is wrong on the plain model, and is refused on the other."""
        assert _gap(_logits(self.plain, self.batch, **call), self.alone) > VISIBLE, MENDED
        with pytest.raises(LayoutError, match=refusal):
            _logits(self.ours, self.batch, **call)


@pytest.fixture(scope="module")
def row(bench: Bench) -> Row:
    return Row(bench)


def test_a_packed_row_that_is_called_right(row: Row) -> None:
    for model in (row.plain, row.ours):
        assert _gap(_logits(model, row.batch, use_cache=False), row.alone) < TOLERANCE


def test_d09_a_packed_row_with_a_cache(row: Row) -> None:
    row.leaks("packed row of 2 samples, which would see each other through a cache")
    # All that a Trainer sets: the language model has a `use_cache` of its own.
    row.plain.config.use_cache = row.ours.config.use_cache = False
    row.leaks(r"through a cache\. Pass use_cache=False; config\.use_cache is not read here")
    row.leaks("through a cache", use_cache=True)
    with pytest.raises(LayoutError, match="through a cache"):
        row.ours.generate(**row.batch, max_new_tokens=1)


def test_d10_a_packed_row_with_a_mask_of_two_dimensions(row: Row) -> None:
    ones = torch.ones(1, row.length, dtype=torch.long)
    numbers = ones.clone()
    numbers[:, row.first :] = 2
    for mask in (ones, numbers):
        row.leaks("through a 2-D attention_mask", attention_mask=mask, use_cache=False)


@pytest.mark.parametrize("borders", [False, True], ids=["without", "cu_seq_lens"])
def test_d11_a_packed_row_with_positions_of_three_rows(row: Row, borders: bool) -> None:
    call: dict[str, Any] = {"position_ids": row.batch["position_ids"][1:], "use_cache": False}
    if borders:
        ends = torch.tensor([0, row.first, row.length], dtype=torch.int32)
        longest = int(ends.diff().max())
        call |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
        call |= {"max_length_q": longest, "max_length_k": longest}
    row.leaks("positions start again at token|without a text row", **call)


def test_a_padded_batch_is_no_packed_row(bench: Bench) -> None:
    """Padding has the position 0 as well; with its mask the batch passes, cache or not."""
    batch = bench.batch(*bench.samples.values())
    assert int((batch["position_ids"][0] == 0).sum(dim=1).max()) > 1
    ours = bench.model(follows=True)
    assert _gap(_logits(ours, batch), _logits(bench.model(follows=False), batch)) < TOLERANCE


def test_d13_a_boolean_mask_of_four_dimensions_under_eager_attention(bench: Bench) -> None:
    batch = bench.batch(bench.samples["image"])
    length = batch["input_ids"].shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    hidden = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    plain, ours = (bench.model(follows=one, attention="eager") for one in (False, True))
    right = _logits(plain, batch)
    call = {"attention_mask": seen, "use_cache": False}
    assert _gap(_logits(plain, batch, **call), right) > VISIBLE, MENDED
    with pytest.raises(LayoutError, match="4-D boolean attention_mask, which eager attention adds"):
        _logits(ours, batch, **call)
    assert _gap(_logits(ours, batch, attention_mask=hidden, use_cache=False), right) < TOLERANCE
    sdpa = bench.model(follows=True)
    assert _gap(_logits(sdpa, batch, **call), right) < TOLERANCE


@pytest.mark.parametrize("given", ["positions", "none"])
@pytest.mark.parametrize("kind", ["image", "video"])
def test_d14_placeholders_without_pixels(bench: Bench, kind: str, given: str) -> None:
    batch = bench.batch(bench.prompts[kind])
    right = _logits(bench.model(follows=False), batch)
    bare = {key: value for key, value in batch.items() if not key.startswith("pixel_values")}
    assert _gap(_logits(bench.model(follows=False), bare), right) > VISIBLE, MENDED
    if given == "none":
        del bare["position_ids"]
    num_placeholders = sum(
        int((batch["input_ids"] == token).sum())
        for token in (bench.rule.image_token_id, bench.rule.video_token_id)
    )
    said = f"{num_placeholders} {kind} placeholders and without pixel_values"
    for call in (_logits, _steps):
        with pytest.raises(LayoutError, match=said):
            call(bench.model(follows=True), bare)


def test_d22_a_model_that_is_cast_after_loading(bench: Bench) -> None:
    """As DeepSpeed does where it trains in bf16: every weight, and no frequency."""

    def tables(model: Any) -> list[torch.Tensor]:
        return [table for name, table in model.named_buffers() if name.endswith("inv_freq")]

    right, plain = tables(bench.model(follows=False)), bench.model(follows=False).bfloat16()
    assert any(table.dtype == torch.bfloat16 for table in tables(plain)), MENDED
    ours = bench.model(follows=True)
    for cast in (ours.bfloat16(), copy.deepcopy(ours).half(), ours.to("cpu", torch.bfloat16)):
        assert next(cast.parameters()).dtype != torch.float32
        assert len(tables(cast)) == len(right) > 0
        assert all(torch.equal(one, two) for one, two in zip(tables(cast), right, strict=True))
    assert {table.device.type for table in tables(ours.to("meta"))} == {"meta"}


def test_d22_a_model_that_was_cast_before_is_refused(bench: Bench) -> None:
    batch = bench.batch(bench.prompts["image"])
    cast = bench.model(follows=False).bfloat16()
    assert _logits(cast, batch).isfinite().all(), MENDED
    follow_engine(cast, bench.rule)
    for call in (_logits, _steps):
        with pytest.raises(ModelError, match="rotary frequencies are bfloat16"):
            call(cast, batch)
    loaded = load_weights(bench.folder, dtype=torch.bfloat16)
    plain, ours = _logits(loaded, batch), _logits(follow_engine(loaded, bench.rule), batch)
    assert torch.equal(plain, ours)


def test_d23_generate_in_training_mode_with_checkpointing(bench: Bench) -> None:
    batch = bench.batch(bench.prompts["image"])
    plain, ours = bench.model(follows=False), bench.model(follows=True)
    right = _steps(plain, batch)
    for model in (plain, ours):
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    assert _gap(_steps(plain, batch), right) > VISIBLE, MENDED
    with pytest.raises(LayoutError, match=r"Call model\.eval\(\) first"):
        _steps(ours, batch)
    # Checkpointing that is on does no harm where nothing trains.
    assert _gap(_steps(ours.eval(), batch), right) < TOLERANCE


def test_what_an_earlier_call_left_on_another_device(bench: Bench) -> None:
    """`rope_deltas` of a model that was moved or split: here on a device without memory."""
    batch = bench.batch(bench.prompts["image"])
    right = _steps(bench.model(follows=False), batch)
    elsewhere = torch.tensor([[40]], device="meta")

    def decode(model: Any, **call: Any) -> torch.Tensor:
        with torch.no_grad():
            cache = model(**batch, use_cache=True).past_key_values
            model.model.rope_deltas = elsewhere
            return model(input_ids=torch.tensor([[5]]), past_key_values=cache, **call).logits

    following = batch["position_ids"][:, :, -1:] + 1
    plain, ours = bench.model(follows=False), bench.model(follows=True)
    with pytest.raises(RuntimeError):
        decode(plain).tolist()
    assert _gap(decode(ours, position_ids=following), decode(plain, position_ids=following)) == 0
    ours.model.rope_deltas = elsewhere
    assert _gap(_steps(ours, batch), right) < TOLERANCE
