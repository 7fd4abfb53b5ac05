"""A linear head and its loss chunk by chunk, the gradients of one before the next is begun.

A backward pass would need the logits again: kept, they are the largest tensor of a step; computed
again, a third of the work of the head. Their gradient is known as soon as they are, softmax less
one-hot, so it goes at once to what it is the gradient of, and the memory serves the next chunk.
"""

from __future__ import annotations

import torch
from torch import nn

from sightline.model.head_loss.gradients import Known, with_gradients
from sightline.model.head_loss.tied import TiedGradient

MIB = 2**20
# Every chunk reads the weight, and reads and writes its gradient if it trains: the larger the
# weight, the longer a chunk should be. 32 and 256 MiB are 55 and 441 tokens of a vocabulary of
# 151,936. Measured by benchmarks/head_loss.py.
_SMALLEST, _LARGEST = 32 * MIB, 256 * MIB
# Logits that a core goes over again and again, for the largest, exponentials and their sum: what
# its own cache holds.
_CACHED = MIB
# Classes whose gradient is computed in low precision before it is added in float32.
_CLASSES_AT_ONCE = 8192


def chunk_length(num_tokens: int, num_classes: int, hidden_size: int, itemsize: int = 4) -> int:
    """Tokens of a chunk, at least 1. Chunks are about equally long.

    Args:
        num_tokens: Tokens in all.
        num_classes: Length of the vocabulary.
        hidden_size: Width of the head's input.
        itemsize: Bytes of a logit in the cross-entropy.

    >>> chunk_length(2048, 151_936, 512), chunk_length(300, 151_936, 64)
    (256, 50)
    """
    size = min(max(num_classes * hidden_size * itemsize // 2, _SMALLEST), _LARGEST)
    most = max(size // (num_classes * itemsize), 1)
    num_chunks = max(-(-num_tokens // most), 1)
    return max(-(-num_tokens // num_chunks), 1)


def linear_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    *,
    length: int | None = None,
    tied: TiedGradient | None = None,
) -> torch.Tensor:
    """Sum of the cross-entropy of a linear head.

    Matrix products are in the dtype in which they would be without this, autocast or not; the
    cross-entropy and all sums over chunks in float32. What needs no gradient costs none.

    Args:
        hidden: (num_tokens, hidden_size) any float dtype.
        weight: (num_classes, hidden_size) the same dtype, or another under autocast.
        bias: (num_classes,) likewise; None where there is none.
        targets: (num_tokens,) int64.
        length: Tokens of a chunk; None for `chunk_length`.
        tied: Gets the weight's gradient, where the token embedding goes on with it.

    Returns:
        () float32.

    Reference: ``cross_entropy`` of ``linear`` in torch; tests/unit/model/test_head_loss.py.
    """
    has_graph = torch.is_grad_enabled()
    with torch.no_grad():
        # Autocast is asked by what it does. Nothing is computed: there are no rows.
        dtype = nn.functional.linear(hidden[:0], weight[:0]).dtype
        wide = torch.promote_types(dtype, torch.float32)
        length = length or chunk_length(
            len(hidden), weight.shape[0], weight.shape[1], wide.itemsize
        )

        def gradient(of: torch.Tensor | None) -> torch.Tensor | None:
            if of is None or not (has_graph and of.requires_grad):
                return None
            return torch.zeros_like(of, dtype=wide)

        head = _Head(
            weight=weight.to(dtype),
            bias=None if bias is None else bias.to(dtype),
            weight_gradient=gradient(weight),
            bias_gradient=gradient(bias),
            logits=hidden.new_empty((length, len(weight)), dtype=wide),
        )
        hidden_gradient = gradient(hidden)
        losses = hidden.new_empty(len(hidden), dtype=wide)
        for start in range(0, len(hidden), length):
            part = slice(start, start + length)
            below = None if hidden_gradient is None else hidden_gradient[part]
            losses[part] = head.losses(hidden[part].to(dtype), targets[part], below)
        found = zip(
            (hidden, weight, bias),
            (hidden_gradient, head.weight_gradient, head.bias_gradient),
            (None, tied, None),
            strict=True,
        )
        known = [
            Known(of, one, taker) for of, one, taker in found if of is not None and one is not None
        ]
        total = losses.sum()
    return with_gradients(total, known)


class _Head:
    """A linear head, its gradients, and memory for the logits of one chunk.

    Args:
        weight: (num_classes, hidden_size). Its dtype is that of the matrix products.
        bias: (num_classes,); None where there is none.
        weight_gradient: What the weight's gradient is added to; None where it needs none.
        bias_gradient: What the bias's is added to; None where it needs none.
        logits: (length, num_classes) float32 or wider.
    """

    def __init__(
        self,
        *,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        weight_gradient: torch.Tensor | None,
        bias_gradient: torch.Tensor | None,
        logits: torch.Tensor,
    ) -> None:
        self._weight = weight
        self._bias = bias
        self.weight_gradient = weight_gradient
        self.bias_gradient = bias_gradient
        self._logits = logits
        self._is_low = weight.dtype != logits.dtype
        self._low = torch.empty_like(logits, dtype=weight.dtype) if self._is_low else logits

    def losses(
        self, hidden: torch.Tensor, targets: torch.Tensor, hidden_gradient: torch.Tensor | None
    ) -> torch.Tensor:
        """Losses of a chunk, (num_tokens,); the gradients of their sum are written down.

        Args:
            hidden: (num_tokens, hidden_size), in the dtype of the weight.
            targets: (num_tokens,) int64.
            hidden_gradient: (num_tokens, hidden_size). Overwritten; None where it is not needed.
        """
        logits, low = self._logits[: len(hidden)], self._low[: len(hidden)]
        self._multiply(hidden, low)
        chosen = low.gather(1, targets.unsqueeze(1)).to(logits.dtype)
        largest, sums = self._exponentiate(logits, low)
        losses = (sums.log() + largest - chosen).squeeze(1)
        gradients = (hidden_gradient, self.weight_gradient, self.bias_gradient)
        if any(one is not None for one in gradients):
            differentiate = self._differentiate_low if self._is_low else self._differentiate
            differentiate(hidden, targets, logits, sums, hidden_gradient)
        return losses

    def _exponentiate(
        self, logits: torch.Tensor, low: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn logits into exponentials of what they are below the largest of their token.

        On a CPU a few tokens at a time: memory is far slower than what is done here.

        Args:
            logits: (num_tokens, num_classes). Overwritten.
            low: (num_tokens, num_classes). The logits as they were computed; `logits` itself where
                that is in no lower precision.

        Returns:
            The largest logit of every token, and the sum of its exponentials; (num_tokens, 1) each.
        """
        length = len(logits)
        largest, sums = (logits.new_empty((length, 1)) for _ in range(2))
        at_once = max(length, 1)
        if logits.device.type == "cpu":
            row = logits.shape[1] * logits.itemsize
            at_once = max(_CACHED * torch.get_num_threads() // row, 1)
        for start in range(0, length, at_once):
            part = slice(start, start + at_once)
            these = logits[part]
            if self._is_low:
                these.copy_(low[part])
            torch.amax(these, 1, keepdim=True, out=largest[part])
            torch.sum(these.sub_(largest[part]).exp_(), 1, keepdim=True, out=sums[part])
        return largest, sums

    def _multiply(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        if self._bias is None:
            torch.mm(hidden, self._weight.T, out=out)
        else:
            torch.addmm(self._bias, hidden, self._weight.T, out=out)

    def _differentiate(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        exponentials: torch.Tensor,
        sums: torch.Tensor,
        hidden_gradient: torch.Tensor | None,
    ) -> None:
        """Carry the gradient of a chunk's logits to all that needs it.

        The sums divide the few numbers of a token, not the many of its logits.
        """
        if hidden_gradient is not None:
            # One-hot apart: in between it would be the largest term of a long sum by far.
            torch.div(exponentials @ self._weight, sums, out=hidden_gradient)
            hidden_gradient -= self._weight[targets]
        _subtract_one_hot(exponentials, targets, sums)
        if self.weight_gradient is not None:
            # Not addmm_, which torch's counter of operations leaves out.
            slopes = exponentials.T, hidden / sums
            torch.addmm(self.weight_gradient, *slopes, out=self.weight_gradient)
        if self.bias_gradient is not None:
            self.bias_gradient += (exponentials.T @ sums.reciprocal()).squeeze(1)

    def _differentiate_low(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        exponentials: torch.Tensor,
        sums: torch.Tensor,
        hidden_gradient: torch.Tensor | None,
    ) -> None:
        """The same in low precision.

        One-hot is subtracted before anything is rounded: where the model is nearly certain, what
        is left of 1 is less than the rounding of 1.
        """
        _subtract_one_hot(exponentials, targets, sums)
        slopes = exponentials.div_(sums)
        low = self._low[: len(hidden)].copy_(slopes)
        if hidden_gradient is not None:
            hidden_gradient.copy_(low @ self._weight)
        if self.weight_gradient is not None:
            for start in range(0, len(self._weight), _CLASSES_AT_ONCE):
                part = slice(start, start + _CLASSES_AT_ONCE)
                self.weight_gradient[part] += low[:, part].T @ hidden
        if self.bias_gradient is not None:
            self.bias_gradient += slopes.sum(0)


def _subtract_one_hot(
    exponentials: torch.Tensor, targets: torch.Tensor, sums: torch.Tensor
) -> None:
    """Set, not added by index, which would have no fixed order on a GPU."""
    target = targets.unsqueeze(1)
    exponentials.scatter_(1, target, exponentials.gather(1, target) - sums)
