"""The proof of the loss: it holds for the run's own, and for no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sightline.config import Source, TrainingConfig
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
from sightline.training import loss_proof
from sightline.training.loss_proof import first_samples, prove_loss
from sightline.training.steps import TrainingData

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


class Bench:
    """A tiny model, and samples with answers of unequal length."""

    def __init__(self, folder: str, data: Any) -> None:
        self.checkpoint = open_checkpoint(folder)
        encoder = make_encoder(self.checkpoint)
        source = Source(path=str(data / "train.jsonl"))
        self.samples: list[EncodedSample] = [encoder.encode(one) for one in read_source(source)][:5]
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

    def prove(self, num: int = 3, *, packs: bool = True, together: Any = None) -> Any:
        return prove_loss(
            self.model,
            self.samples[:num],
            together=together or self.collator(packs=packs),
            alone=self.collator(packs=False),
        )


@pytest.fixture(params=FAMILIES)
def bench(request, tiny_folder, shapes_folder) -> Bench:
    return Bench(str(tiny_folder(request.param)), shapes_folder)


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("num", [1, 3])
def test_the_loss_of_a_run_is_the_mean_over_tokens(bench: Bench, packs: bool, num: int) -> None:
    bench.model.train()
    proof = bench.prove(num, packs=packs)
    assert proof.holds, proof
    assert proof.alone > 1
    assert proof.num_tokens == sum(one.num_supervised_tokens for one in bench.samples[:num])
    assert bench.model.training


def test_a_mean_of_means_is_found(bench: Bench, monkeypatch) -> None:
    real = loss_proof.model_loss

    def mean_of_means(model: Any, batch: Any, num_tokens: Any) -> Any:
        loss, own = real(model, batch, None)
        return loss / 2, own

    monkeypatch.setattr(loss_proof, "model_loss", mean_of_means)
    assert not bench.prove().holds


def test_a_label_over_the_border_of_two_samples_is_found(bench: Bench) -> None:
    collate = bench.collator(packs=True)

    def shifted(samples: Any) -> Any:
        batch = collate(samples)
        borders = batch["cu_seqlens"][1:-1].long()
        batch["labels"][0, borders] = batch["input_ids"][0, borders]
        return batch

    assert not bench.prove(together=shifted).holds


def test_what_is_not_a_number_holds_nowhere(bench: Bench) -> None:
    with torch.no_grad():
        bench.model.get_output_embeddings().weight[5] = torch.nan
    assert not bench.prove().holds


def test_samples_without_labels_are_not_looked_at(bench: Bench) -> None:
    training = TrainingConfig(batch_size=5, gradient_accumulation=1)
    mute = bench.samples[0]
    object.__setattr__(mute, "labels", np.full_like(mute.labels, -100))
    data = TrainingData.of(bench.samples, training)
    chosen = first_samples(data)
    assert len(chosen) == 3
    assert all(one.num_supervised_tokens for one in chosen)
