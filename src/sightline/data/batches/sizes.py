"""What the samples of an epoch cost, known before a pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.data.samples import PlannedSamples


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRates:
    """What the parts of a sample cost, forward and backward; only ratios of them matter.

    Attributes:
        per_token: Of a token in the language model, without attention.
        per_token_pair: Of a token that attends to one of its sample.
        per_supervised_token: Of a token that the loss sees, in the head.
        per_patch: Of a raw patch in the vision tower, attention within windows included.
        per_patch_pair: Of a raw patch that attends to one of its frame.
    """

    per_token: float
    per_token_pair: float = 0.0
    per_supervised_token: float = 0.0
    per_patch: float = 0.0
    per_patch_pair: float = 0.0


BY_TOKENS = CostRates(per_token=1.0)
"""A sample costs its length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSizes:
    """Sizes of the conversations of an epoch, in order.

    Attributes:
        num_tokens: (n,) int64.
        num_supervised_tokens: (n,) int64.
        has_images: (n,) bool.
        has_videos: (n,) bool.
        cost: (n,) float64. What each costs alone, in the unit of the rates.
        rates: What padding costs: it goes through the language model.
    """

    num_tokens: np.ndarray
    num_supervised_tokens: np.ndarray
    has_images: np.ndarray
    has_videos: np.ndarray
    cost: np.ndarray
    rates: CostRates = BY_TOKENS

    def __len__(self) -> int:
        return len(self.num_tokens)


def costs(
    rates: CostRates,
    *,
    num_tokens: np.ndarray,
    num_supervised_tokens: np.ndarray,
    num_patches: np.ndarray,
    num_patch_pairs: np.ndarray,
) -> np.ndarray:
    """What samples cost.

    Args:
        rates: What their parts cost.
        num_tokens: (n,) Tokens, those of vision included.
        num_supervised_tokens: (n,) Tokens that the loss sees.
        num_patches: (n,) Raw patches of all media.
        num_patch_pairs: (n,) Squares of the raw patches of a frame, over all frames.

    Returns:
        (n,) float64.

    Example:
        >>> rates = CostRates(per_token=10.0, per_token_pair=1.0, per_patch=2.0)
        >>> two, none = np.array([2, 3]), np.zeros(2)
        >>> costs(rates, num_tokens=two, num_supervised_tokens=none,
        ...       num_patches=np.array([0, 8]), num_patch_pairs=none).tolist()
        [24.0, 55.0]
    """
    tokens = np.asarray(num_tokens, dtype=np.float64)
    return (
        rates.per_token * tokens
        + rates.per_token_pair * tokens * tokens
        + rates.per_supervised_token * np.asarray(num_supervised_tokens, dtype=np.float64)
        + rates.per_patch * np.asarray(num_patches, dtype=np.float64)
        + rates.per_patch_pair * np.asarray(num_patch_pairs, dtype=np.float64)
    )


def sizes_of(samples: PlannedSamples, rates: CostRates) -> SampleSizes:
    """Sizes of planned samples, from the plan alone.

    Args:
        samples: The conversations of an epoch.
        rates: What their parts cost.
    """
    tokens = samples.column("num_tokens").astype(np.int64)
    supervised = samples.column("num_supervised_tokens").astype(np.int64)
    of_videos = samples.column("num_video_tokens")
    return SampleSizes(
        num_tokens=tokens,
        num_supervised_tokens=supervised,
        has_images=samples.column("num_vision_tokens") > of_videos,
        has_videos=of_videos > 0,
        cost=costs(
            rates,
            num_tokens=tokens,
            num_supervised_tokens=supervised,
            num_patches=samples.column("num_patches"),
            num_patch_pairs=samples.column("num_patch_pairs"),
        ),
        rates=rates,
    )
