"""The proof that the loss is the mean over supervised tokens, on samples of the run itself.

Two micro-batches of unequal size, by the run's own collator, head and normalisation, beside plain
cross-entropy of each sample alone. A mean of means, labels shifted over the border of two samples,
and kernels that compute something else all differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sightline.data import Collator, EncodedSample
from sightline.errors import RunError
from sightline.model import tokens_rounded_alone
from sightline.training.loss import Batch, model_loss, supervised_tokens
from sightline.training.starting import (
    Prepare,
    StartCheck,
    StartProof,
    tolerance_of,
    unprepared,
)
from sightline.training.steps import TrainingData

_NUM_SAMPLES = 3
_FIRST = 2
# As a share of the loss. float32 sums in another order; bf16 keeps 8 bits of what a layer adds up.
_EXACT = 1e-4
_ROUNDED = 3e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class LossProof(StartProof):
    """The loss of some samples as the run computes it, and as plain cross-entropy.

    Attributes:
        num_tokens: Supervised tokens.
        loss: As the run computes it, from two micro-batches where there are two samples.
        alone: Sum of the cross-entropies of all samples alone, over their tokens.
    """

    loss: float
    alone: float

    @property
    def share(self) -> float:
        """How far they are apart, as a share of the loss."""
        return abs(self.loss - self.alone) / max(abs(self.alone), 1e-12)


def first_samples(data: TrainingData) -> list[EncodedSample]:
    """Samples of the first steps that have labels; few, of all ranks."""
    found: dict[int, EncodedSample] = {}
    for number in range(min(data.steps.num_steps, _NUM_SAMPLES)):
        for slot in data.steps.step(0, number).slots:
            for index in (index for row in slot for index in row.samples):
                if len(found) < _NUM_SAMPLES and data.samples[index].num_supervised_tokens:
                    found[index] = data.samples[index]
    return list(found.values())


def prove_loss(
    model: nn.Module,
    samples: Sequence[EncodedSample],
    *,
    together: Collator,
    alone: Collator,
    prepare: Prepare = unprepared,
) -> LossProof:
    """Compute the loss of samples both ways.

    Args:
        model: The planned model on its device. Its mode and its gradients are left as they are.
        samples: One or more, with labels.
        together: The run's collator.
        alone: A collator that pads.
        prepare: Puts a batch on the model's device.
    """
    was_training = model.training
    # Dropout would draw other numbers each way.
    model.eval()
    num_tokens = sum(sample.num_supervised_tokens for sample in samples)
    parts = [part for part in (samples[:_FIRST], samples[_FIRST:]) if part]
    with torch.no_grad(), tokens_rounded_alone(model):
        found = sum(
            float(model_loss(model, prepare(together(part)), num_tokens)[0]) for part in parts
        )
        wanted = sum(_cross_entropy(model, prepare(alone([sample]))) for sample in samples)
    model.train(was_training)
    return LossProof(
        samples=[str(sample.conversation.origin) for sample in samples],
        num_tokens=num_tokens,
        loss=found,
        alone=wanted / num_tokens,
        tolerance=tolerance_of(model, exact=_EXACT, rounded=_ROUNDED),
    )


def _cross_entropy(model: nn.Module, batch: Mapping[str, Any]) -> float:
    """The sum over a row's supervised tokens, from the logits of plain transformers."""
    tokens, targets = supervised_tokens(batch["labels"])
    inputs: Batch = {
        key: batch[key] for key in batch if key not in ("labels", "supervised", "targets")
    }
    logits = model(**inputs, logits_to_keep=tokens, use_cache=False).logits[0]
    return float(nn.functional.cross_entropy(logits.float(), targets, reduction="sum"))


class LossCheck(StartCheck[LossProof]):
    """Proves the loss on a few samples of the first steps."""

    record = "loss"

    def choose(self) -> list[EncodedSample]:
        return first_samples(self._data)

    def prove(
        self, model: nn.Module, samples: Sequence[EncodedSample], prepare: Prepare
    ) -> LossProof:
        return prove_loss(
            model, samples, together=self._together, alone=self._alone, prepare=prepare
        )

    def refusal(self, proof: LossProof) -> RunError:
        return RunError(
            f"the loss is not the mean over supervised tokens: of {len(proof.samples)} samples "
            f"with {proof.num_tokens} tokens it is {proof.loss:.6g}, plain cross-entropy of each "
            f"alone is {proof.alone:.6g}, apart by {proof.share:.2g} of it, over "
            f"{proof.tolerance:g}. The first sample is {proof.samples[0]}.\n"
            "Set training.head_loss to chunked and training.packing to off."
        )
