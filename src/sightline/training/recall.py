"""How well a model knows its samples by heart: it reads an answer, and predicts every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from sightline.data import Collator, EncodedSample
from sightline.training.loss import supervised_tokens
from sightline.training.steps import on_device

# Logits that are held at once, 256 MiB in float32.
_MAX_LOGIT_VALUES = 64 * 1024 * 1024


class Recall(NamedTuple):
    """What a model knows of one sample.

    Attributes:
        loss: Mean loss per supervised token.
        num_wrong: Supervised tokens that are not the most likely one.
        num_tokens: Supervised tokens.
    """

    loss: float
    num_wrong: int
    num_tokens: int


def recall_samples(model: Any, samples: Sequence[EncodedSample], collate: Collator) -> list[Recall]:
    """What a model knows of samples, each alone, without dropout.

    Args:
        model: The planned model, on its device; autocast is the caller's.
        samples: The samples.
        collate: Makes a padded batch of one.
    """
    was_training = model.training
    model.eval()
    try:
        return [_recall(model, collate([sample])) for sample in samples]
    finally:
        model.train(was_training)


def _recall(model: Any, batch: dict[str, torch.Tensor]) -> Recall:
    placed = on_device(batch, model.device)
    columns, targets = supervised_tokens(placed["labels"])
    inputs = {key: value for key, value in placed.items() if key != "labels"}
    most = max(1, _MAX_LOGIT_VALUES // int(model.config.text_config.vocab_size))
    loss, num_wrong = 0.0, 0
    for some, wanted in zip(columns.split(most), targets.split(most), strict=True):
        with torch.no_grad():
            logits = model(**inputs, logits_to_keep=some, use_cache=False).logits[0].float()
        loss += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        num_wrong += int((logits.argmax(-1) != wanted).sum())
    return Recall(loss / max(1, len(targets)), num_wrong, len(targets))
