"""The proof that packed samples do not see each other, on a row of the run itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sightline.data import Collator, EncodedSample
from sightline.errors import LeakError
from sightline.model import Segments, packed_row, tokens_rounded_alone
from sightline.training.loss import Batch
from sightline.training.starting import (
    Prepare,
    StartCheck,
    StartProof,
    tolerance_of,
    unprepared,
)
from sightline.training.steps import TrainingData

_COLUMNS = 4
_STEPS_LOOKED_AT = 16
# Share of the spread of the logits. Where samples see each other it is 1 and more; float32 sums in
# another order, and bf16 keeps 8 bits of what every layer adds up.
_EXACT = 1e-3
_ROUNDED = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingProof(StartProof):
    """A packed row beside its samples alone.

    Attributes:
        num_tokens: Length of the row.
        num_compared: Tokens whose logits were compared.
        largest_share: Largest difference of two logits, as a share of their standard deviation.
    """

    num_compared: int
    largest_share: float

    @property
    def share(self) -> float:
        """`largest_share`."""
        return self.largest_share


def first_row(data: TrainingData) -> list[EncodedSample]:
    """The samples of the first row that has two or more; none where the first steps have none."""
    for number in range(min(data.steps.num_steps, _STEPS_LOOKED_AT)):
        for slot in data.steps.step(0, number).slots:
            for row in slot:
                if len(row.samples) > 1:
                    return [data.samples[index] for index in row.samples]
    return []


def prove_packing(
    model: nn.Module,
    samples: Sequence[EncodedSample],
    *,
    packed: Collator,
    alone: Collator,
    prepare: Prepare = unprepared,
) -> PackingProof:
    """Logits of a packed row, and of each of its samples alone.

    Args:
        model: The planned model on its device. Its mode and its gradients are left as they are.
        samples: The samples of the row, two or more.
        packed: Collator that packs.
        alone: Collator that does not.
        prepare: Puts a batch on the model's device.
    """
    was_training = model.training
    model.eval()
    row = packed(samples)
    borders = row["cu_seqlens"].tolist()
    with torch.no_grad(), tokens_rounded_alone(model):
        columns = [_columns(len(sample.input_ids)) for sample in samples]
        together = torch.cat([own + start for own, start in zip(columns, borders, strict=False)])
        with packed_row(Segments.of(prepare({"borders": row["cu_seqlens"]})["borders"])):
            found = _logits(model, prepare(row), together)
        wanted = torch.cat(
            [
                _logits(model, prepare(alone([sample])), own)
                for sample, own in zip(samples, columns, strict=True)
            ]
        )
    model.train(was_training)
    spread = float(wanted.std())
    gap = float((found - wanted).abs().max())
    return PackingProof(
        samples=[str(sample.conversation.origin) for sample in samples],
        num_tokens=borders[-1],
        num_compared=len(together),
        largest_share=gap / spread if spread > 0 else gap,
        tolerance=tolerance_of(model, exact=_EXACT, rounded=_ROUNDED),
    )


class PackingCheck(StartCheck[PackingProof]):
    """Proves packing on the first row that has two samples."""

    record = "packing"

    def choose(self) -> list[EncodedSample]:
        return first_row(self._data)

    def prove(
        self, model: nn.Module, samples: Sequence[EncodedSample], prepare: Prepare
    ) -> PackingProof:
        return prove_packing(
            model, samples, packed=self._together, alone=self._alone, prepare=prepare
        )

    def refusal(self, proof: PackingProof) -> LeakError:
        return LeakError(
            f"packed samples see each other: in a row of {len(proof.samples)} samples logits "
            f"differ by {proof.largest_share:.2g} of their spread from those of the samples "
            f"alone, over {proof.tolerance:g}. The first sample is {proof.samples[0]}.\n"
            "Set training.packing to off."
        )


def _columns(num_tokens: int) -> torch.Tensor:
    """Some tokens of a sample, its first and its last among them."""
    return torch.linspace(0, num_tokens - 1, min(_COLUMNS, num_tokens)).long()


def _logits(model: nn.Module, batch: Mapping[str, Any], columns: torch.Tensor) -> torch.Tensor:
    """(num_columns, vocabulary) float32 of a batch of one row."""
    inputs: Batch = {key: batch[key] for key in batch if key not in ("labels", "cu_seqlens")}
    columns = columns.to(inputs["input_ids"].device)
    return model(**inputs, logits_to_keep=columns, use_cache=False).logits[0].float()
