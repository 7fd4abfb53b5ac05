"""The proof of packing: it holds where samples are apart, and says where they are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sightline.config import Source, TrainingConfig
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.data.blanks import Blanks
from sightline.errors import PlanError
from sightline.model import (
    attend_by_segments,
    follow_engine,
    load_weights,
    open_checkpoint,
    packed_row,
    return_losses,
    segments,
)
from sightline.preparation import make_encoder
from sightline.training.loss import model_loss
from sightline.training.packing import first_row, prove_packing
from sightline.training.ready import decide_packing
from sightline.training.steps import StepLoader, TrainingData

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


class Bench:
    """A tiny model that attends by segments, and samples with pictures of unequal size."""

    def __init__(self, folder: str, data: Any) -> None:
        self.checkpoint = open_checkpoint(folder)
        encoder = make_encoder(self.checkpoint)
        source = Source(path=str(data / "train.jsonl"))
        self.samples: list[EncodedSample] = [encoder.encode(one) for one in read_source(source)][:4]
        model = load_weights(folder, dtype=torch.float32)
        attend_by_segments(model, self.checkpoint.family)
        follow_engine(model, self.checkpoint.position_rule)
        self.model: Any = return_losses(model)

    def collator(self, *, packs: bool) -> Collator:
        rule = self.checkpoint.position_rule
        return Collator(
            pixels=ProcessorPixels(self.checkpoint.processor),
            rule=rule,
            pad_token_id=0,
            packs=packs,
            blanks=Blanks(rule, self.checkpoint.preprocessing, takes_raw=False, filler=0),
        )

    def prove(self, samples: list[EncodedSample] | None = None) -> Any:
        return prove_packing(
            self.model,
            samples or self.samples,
            packed=self.collator(packs=True),
            alone=self.collator(packs=False),
        )


@pytest.fixture(params=FAMILIES)
def bench(request, tiny_folder, shapes_folder) -> Bench:
    return Bench(str(tiny_folder(request.param)), shapes_folder)


def test_packed_samples_are_as_they_are_alone(bench: Bench) -> None:
    bench.model.train()
    proof = bench.prove()
    assert proof.holds
    assert proof.num_compared == 16
    assert proof.num_tokens == sum(sample.num_tokens for sample in bench.samples)
    assert bench.model.training


def test_samples_that_see_each_other_are_found(bench: Bench, monkeypatch) -> None:
    class Forgotten(packed_row):
        def __init__(self, row: Any) -> None:
            super().__init__(segments.Segments.of(row.borders[[0, -1]]))

    monkeypatch.setattr("sightline.training.packing.packed_row", Forgotten)
    proof = bench.prove()
    assert not proof.holds
    assert proof.largest_share > 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_a_packed_row_are_those_of_its_samples(
    bench: Bench, checkpointing: bool
) -> None:
    model = bench.model
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    count = sum(sample.num_supervised_tokens for sample in bench.samples)
    for sample in bench.samples:
        model_loss(model, bench.collator(packs=False)([sample]), count)[0].backward()
    alone = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    loss, own = model_loss(model, bench.collator(packs=True)(bench.samples), count)
    loss.backward()
    assert own == count
    assert len(alone) > 50
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name not in alone)
        if name in alone:
            gap = (parameter.grad - alone[name]).norm() / alone[name].norm()
            assert gap < 1e-5, name


def test_a_blank_takes_part_and_changes_nothing(bench: Bench) -> None:
    """The vision tower is called, its gradients are zeros, and the loss is what it was."""
    model, collate = bench.model.train(), bench.collator(packs=True)
    text = [bench.samples[0]]
    without, _ = model_loss(model, collate(text), 1)
    batch = collate(text, blank_video=True)
    assert len(batch["video_grid_thw"]) == 1
    loss, _ = model_loss(model, batch, 1)
    torch.testing.assert_close(loss, without, rtol=1e-5, atol=0)
    model.zero_grad(set_to_none=True)
    empty = collate([], blank_image=True)
    loss, own = model_loss(model, empty, 1)
    assert (float(loss.detach()), own) == (0.0, 0)
    loss.backward()
    vision = model.get_submodule(bench.checkpoint.family.modules.vision)
    gradients = [p.grad for p in vision.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    # Nothing at all to do for a rank: two tokens of text.
    loss, own = model_loss(model, collate([]), 1)
    assert (float(loss.detach()), own) == (0.0, 0)


def test_a_run_that_would_pack_linear_attention_is_refused() -> None:
    layers = SimpleNamespace(layer_types=["linear_attention", "full_attention"])
    checkpoint: Any = SimpleNamespace(source="a/folder", config=SimpleNamespace(text_config=layers))
    assert not decide_packing("auto", checkpoint)
    assert not decide_packing("off", checkpoint)
    with pytest.raises(PlanError, match="samples packed for a/folder would see each other: layers"):
        decide_packing("on", checkpoint)
    layers.layer_types = ["full_attention"]
    assert decide_packing("auto", checkpoint)


def test_the_first_row_of_two_samples_is_proven(bench: Bench) -> None:
    def data(batch_size: int) -> TrainingData:
        training = TrainingConfig(batch_size=batch_size, gradient_accumulation=1)
        return TrainingData.of(bench.samples, training, packed=True)

    assert first_row(data(1)) == []
    assert len(first_row(data(3))) == 3


def test_steps_can_begin_in_the_middle_of_an_epoch(bench: Bench) -> None:
    training = TrainingConfig(batch_size=1, gradient_accumulation=2)
    data = TrainingData.of(bench.samples, training, packed=True)

    def ids(loader: StepLoader) -> list[list[list[int]]]:
        return [[batch["input_ids"][0].tolist() for batch in step] for step in loader]

    loader = StepLoader(data, bench.collator(packs=True))
    loader.set_epoch(1)
    whole = ids(loader)
    assert [len(step) for step in whole] == [2, 2]
    assert ids(loader.starting_at(1)) == whole[1:]
    # Of that pass only.
    assert ids(loader) == whole
    loader.set_epoch(0)
    rows = sorted(row for step in ids(loader) for row in step)
    assert rows == sorted(row for step in whole for row in step)


def test_the_loader_draws_nothing_from_the_generator_of_dropout(bench: Bench) -> None:
    data = TrainingData.of(bench.samples, TrainingConfig(batch_size=2), packed=True)
    before = torch.get_rng_state()
    for step in StepLoader(data, bench.collator(packs=True)):
        assert step.num_supervised_tokens > 0
        list(step)
    assert torch.equal(torch.get_rng_state(), before)
