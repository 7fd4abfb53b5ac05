"""The proof of the loss: it holds for the run's own, and for no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sightline.config import TrainingConfig
from sightline.training import loss_proof
from sightline.training.loss_proof import first_samples, prove_loss
from sightline.training.steps import TrainingData


def prove(bench: Any, num: int = 3, *, packs: bool = True, together: Any = None) -> Any:
    return prove_loss(
        bench.model,
        bench.samples[:num],
        together=together or bench.collator(packs=packs),
        alone=bench.collator(packs=False),
    )


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("num", [1, 3])
def test_the_loss_of_a_run_is_the_mean_over_tokens(bench: Any, packs: bool, num: int) -> None:
    bench.model.train()
    proof = prove(bench, num, packs=packs)
    assert proof.holds, proof
    assert proof.alone > 1
    assert proof.num_tokens == sum(one.num_supervised_tokens for one in bench.samples[:num])
    assert bench.model.training


def test_a_mean_of_means_is_found(bench: Any, monkeypatch) -> None:
    real = loss_proof.model_loss

    def mean_of_means(model: Any, batch: Any, num_tokens: Any) -> Any:
        loss, own = real(model, batch, None)
        return loss / 2, own

    monkeypatch.setattr(loss_proof, "model_loss", mean_of_means)
    assert not prove(bench).holds


def test_a_label_over_the_border_of_two_samples_is_found(bench: Any) -> None:
    collate = bench.collator(packs=True)

    def shifted(samples: Any) -> Any:
        batch = collate(samples)
        borders = batch["cu_seqlens"][1:-1].long()
        batch["labels"][0, borders] = batch["input_ids"][0, borders]
        return batch

    assert not prove(bench, together=shifted).holds


def test_what_is_not_a_number_holds_nowhere(bench: Any) -> None:
    with torch.no_grad():
        bench.model.get_output_embeddings().weight[5] = torch.nan
    assert not prove(bench).holds


def test_samples_without_labels_are_not_looked_at(bench: Any) -> None:
    training = TrainingConfig(batch_size=5, gradient_accumulation=1)
    mute = bench.samples[0]
    object.__setattr__(mute, "labels", np.full_like(mute.labels, -100))
    data = TrainingData.of(bench.samples, training)
    chosen = first_samples(data)
    assert len(chosen) == 3
    assert all(one.num_supervised_tokens for one in chosen)
