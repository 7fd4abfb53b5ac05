"""The proof of packing: it holds where samples are apart, and says where they are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sightline.config import TrainingConfig
from sightline.errors import PlanError
from sightline.model import packed_row, segments
from sightline.preparation import is_packed
from sightline.training.loss import model_loss
from sightline.training.packing import first_row, prove_packing
from sightline.training.steps import StepLoader, TrainingData


def prove(bench: Any) -> Any:
    return prove_packing(
        bench.model,
        bench.samples,
        packed=bench.collator(packs=True),
        alone=bench.collator(packs=False),
    )


def test_packed_samples_are_as_they_are_alone(bench: Any) -> None:
    bench.model.train()
    proof = prove(bench)
    assert proof.holds
    assert proof.num_compared == 16
    assert proof.num_tokens == sum(sample.num_tokens for sample in bench.samples)
    assert bench.model.training


def test_samples_that_see_each_other_are_found(bench: Any, monkeypatch) -> None:
    class Forgotten(packed_row):
        def __init__(self, row: Any) -> None:
            super().__init__(segments.Segments.of(row.borders[[0, -1]]))

    monkeypatch.setattr("sightline.training.packing.packed_row", Forgotten)
    proof = prove(bench)
    assert not proof.holds
    assert proof.largest_share > 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_a_packed_row_are_those_of_its_samples(
    bench: Any, checkpointing: bool
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


def test_a_blank_takes_part_and_changes_nothing(bench: Any) -> None:
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
    assert not is_packed("auto", checkpoint)
    assert not is_packed("off", checkpoint)
    with pytest.raises(PlanError, match="samples packed for a/folder would see each other: layers"):
        is_packed("on", checkpoint)
    layers.layer_types = ["full_attention"]
    assert is_packed("auto", checkpoint)


def test_the_first_row_of_two_samples_is_proven(bench: Any) -> None:
    def data(batch_size: int) -> TrainingData:
        training = TrainingConfig(batch_size=batch_size, gradient_accumulation=1)
        return TrainingData.of(bench.samples, training, packed=True)

    assert first_row(data(1)) == []
    assert len(first_row(data(3))) == 3


def test_steps_can_begin_in_the_middle_of_an_epoch(bench: Any) -> None:
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


def test_the_loader_draws_nothing_from_the_generator_of_dropout(bench: Any) -> None:
    data = TrainingData.of(bench.samples, TrainingConfig(batch_size=2), packed=True)
    before = torch.get_rng_state()
    for step in StepLoader(data, bench.collator(packs=True)):
        assert step.num_supervised_tokens > 0
        list(step)
    assert torch.equal(torch.get_rng_state(), before)
