"""Letting a model's call return a loss, so that full logits are never there.

Head and loss have to be computed inside the model's own call: outside it, DDP does not know that
the head takes part, and FSDP has taken its weight away again.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from sightline.model.head_loss import HeadLoss, head_loss, tied_embedding
from sightline.model.segments import Segments, packed_row
from sightline.positions import refuse_flat


class Supervised(NamedTuple):
    """Where the loss looks.

    Attributes:
        tokens: (num_supervised,) int64. Tokens that predict a supervised one, counted through
            all rows of a batch.
        targets: (num_supervised,) int64. The token after each.
    """

    tokens: torch.Tensor
    targets: torch.Tensor


def return_losses(model: PreTrainedModel, *, kind: HeadLoss = "auto") -> PreTrainedModel:
    """Let calls with ``supervised=`` return a loss; all others are as before.

    The loss is the sum of the cross-entropy of the supervised tokens, () float32. Such a call
    needs explicit ``position_ids``, uses no cache, and takes ``segments=``: where the samples of
    a packed row begin and end, None for padded rows.

    Args:
        model: A conditional-generation model, before PEFT wraps it.
        kind: What computes head and loss.

    Returns:
        The same model. Its class and its weights are untouched.
    """
    method: Any = model.forward
    before: Any = method.__func__

    # `generate` reads the signature of forward.
    @functools.wraps(before)
    def forward(
        self: PreTrainedModel,
        *args: Any,
        supervised: Supervised | None = None,
        segments: Segments | None = None,
        **kwargs: Any,
    ) -> Any:
        if supervised is None:
            return before(self, *args, **kwargs)
        refuse_flat(kwargs.get("position_ids"))
        body: Any = self.base_model
        head: Any = self.get_output_embeddings()
        with packed_row(segments), tied_embedding(self.get_input_embeddings(), head) as tied:
            # An explicit False: with a cache, attention would not see where samples begin.
            hidden = body(*args, use_cache=False, **kwargs).last_hidden_state
        chosen = hidden.flatten(0, 1).index_select(0, supervised.tokens)
        return head_loss(head, chosen, supervised.targets, kind=kind, tied=tied)

    # An attribute of the instance: set past nn.Module, which keeps only modules and tensors.
    object.__setattr__(model, "forward", MethodType(forward, model))
    return model
