"""Which samples make a step: a new random order every epoch, cut into steps.

What is decided here knows nothing of ranks, micro-batches or padding, so that a step holds the same
samples however it is divided.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

import numpy as np

from sightline.data.batches.balance import balanced, even_out, least_bins

# Steps whose samples are exchanged until all have the same number of tokens: enough of them to
# balance long samples against short ones, few enough that a step stays a random draw.
_STEPS_A_WINDOW = 32
# Shares of a step that may be meant to be filled; the more samples make one, the fuller it gets.
_FILLS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94, 0.96, 0.98, 0.99)
# Share of the steps that may hold more than their size, and steps on which that is tried.
_OVER = 0.005
_NUM_TRIED = 12 * _STEPS_A_WINDOW
# A step this much over the mean of its window is even enough.
_EVEN = 1.001


class EpochOrder(Protocol):
    """The samples of an epoch, step by step."""

    epoch: int

    def step(self, number: int) -> np.ndarray:
        """(samples,) int64. Numbers of a step's samples."""
        ...


class SamplesAStep:
    """Steps of so many samples each; the last one of an epoch may have fewer.

    Args:
        num_samples: Samples of an epoch.
        samples_per_step: Samples of a step.
    """

    def __init__(self, num_samples: int, samples_per_step: int) -> None:
        self._num_samples = num_samples
        self._size = samples_per_step
        self.num_steps = -(-num_samples // samples_per_step)

    def order(self, seed: int, epoch: int) -> EpochOrder:
        """The steps of an epoch."""
        return _InTurn(epoch, _shuffled(self._num_samples, seed, epoch), self._size)


class _InTurn:
    def __init__(self, epoch: int, shuffled: np.ndarray, size: int) -> None:
        self.epoch = epoch
        self._shuffled = shuffled
        self._size = size

    def step(self, number: int) -> np.ndarray:
        return self._shuffled[number * self._size : (number + 1) * self._size]


class TokensAStep:
    """Steps of about so many tokens each, and nearly never of more.

    The random order is cut into windows of steps with the same number of tokens. Within a window
    the longest samples come first, each to the step that has fewest tokens so far; then samples
    are exchanged until the steps are even. How full steps can be is tried on a part of the samples,
    so that an epoch has as many steps as it needs, and every epoch as many.

    Args:
        num_tokens: (n,) Lengths of the samples of an epoch.
        tokens_per_step: Tokens of a step.
    """

    def __init__(self, num_tokens: np.ndarray, tokens_per_step: int) -> None:
        # A sample that is longer than a step is a step, as one that fills it.
        self._num_tokens = num_tokens
        if num_tokens.max() > tokens_per_step:
            self._num_tokens = np.minimum(num_tokens, tokens_per_step)
        self.num_steps = _num_steps(self._num_tokens, tokens_per_step)

    def order(self, seed: int, epoch: int) -> EpochOrder:
        """The steps of an epoch."""
        shuffled = _shuffled(len(self._num_tokens), seed, epoch)
        return _Windows(seed, epoch, shuffled, self._num_tokens, self.num_steps)


class _Windows:
    def __init__(
        self,
        seed: int,
        epoch: int,
        shuffled: np.ndarray,
        num_tokens: np.ndarray,
        num_steps: int,
    ) -> None:
        self.epoch = epoch
        self._seed = seed
        self._shuffled = shuffled
        self._num_tokens = num_tokens
        num_windows = max(1, round(num_steps / _STEPS_A_WINDOW))
        # The first step of every window, and one behind the last.
        self._steps = np.arange(num_windows + 1) * num_steps // num_windows
        self._bounds = self._cut(num_steps)
        self._window: tuple[int, list[np.ndarray]] | None = None

    def _cut(self, num_steps: int) -> np.ndarray:
        """(num_windows + 1,) int64. Where in the order each window begins."""
        num_samples = len(self._shuffled)
        ends = np.cumsum(self._num_tokens[self._shuffled])
        # A sample belongs to the window in which its middle lies.
        middles = ends - self._num_tokens[self._shuffled] / 2
        bounds = np.searchsorted(middles, ends[-1] * (self._steps / num_steps))
        # Every window has at least a sample for each of its steps.
        bounds = np.maximum.accumulate(bounds - self._steps) + self._steps
        left = num_samples - (num_steps - self._steps)
        return np.minimum(bounds, left)

    def step(self, number: int) -> np.ndarray:
        window = int(np.searchsorted(self._steps, number, side="right")) - 1
        if self._window is None or self._window[0] != window:
            self._window = window, self._made(window)
        return self._window[1][number - int(self._steps[window])]

    def _made(self, window: int) -> list[np.ndarray]:
        """The steps of a window, in random order: the first made holds its longest sample."""
        samples = self._shuffled[self._bounds[window] : self._bounds[window + 1]]
        num_steps = int(self._steps[window + 1] - self._steps[window])
        tokens = self._num_tokens[samples]
        steps = balanced(tokens.tolist(), num_steps)
        even_out(steps, tokens, target=_EVEN * int(tokens.sum()) / num_steps)
        made = [samples[np.array(step, dtype=np.int64)] for step in steps]
        chance = np.random.default_rng([self._seed, self.epoch, window])
        return [made[step] for step in chance.permutation(num_steps)]


def _num_steps(num_tokens: np.ndarray, tokens_per_step: int) -> int:
    """Steps of an epoch: the fewest of which nearly none holds more than its size."""
    num_tried = int(_NUM_TRIED * tokens_per_step / num_tokens.mean()) + 1
    tried = num_tokens[_shuffled(len(num_tokens), 0, 0)[:num_tried]]
    # The fuller they are to be, the more of them are over.
    enough = bisect_right(
        _FILLS, _OVER, lo=1, key=lambda fill: _share_over(tried, tokens_per_step, fill)
    )
    fill = _FILLS[enough - 1]
    return least_bins(num_tokens, tokens_per_step, fill=fill)


def _share_over(num_tokens: np.ndarray, tokens_per_step: int, fill: float) -> float:
    """Share of steps that hold more than their size."""
    num_steps = least_bins(num_tokens, tokens_per_step, fill=fill)
    order = _Windows(0, 0, np.arange(len(num_tokens)), num_tokens, num_steps)
    steps = [order.step(number) for number in range(num_steps)]
    return float(np.mean([num_tokens[step].sum() > tokens_per_step for step in steps]))


def _shuffled(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """(n,) int64. All samples of an epoch in random order."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
