"""States of the random number generators as tensors: nothing is pickled."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

States = dict[str, torch.Tensor]


def random_states() -> States:
    """The generators of this process: Python's, numpy's, torch's, and that of its GPU.

    Returns:
        ``python`` (625,) int64 with ``python_gauss`` (0 or 1,) float64, the second of a pair of
        normal numbers; ``numpy`` (625,) int64, its 624 words and the place in them, with
        ``numpy_gauss`` likewise; ``torch`` and ``cuda`` uint8.
    """
    state: Any = random.getstate()
    _, words, gauss = state
    state = np.random.get_state()
    kind, keys, place, has_gauss, cached = state
    assert kind == "MT19937"
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": _gauss(gauss),
        "numpy": torch.tensor([*(int(key) for key in keys), int(place)], dtype=torch.int64),
        "numpy_gauss": _gauss(cached if has_gauss else None),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: States) -> None:
    """Set the generators of this process.

    Args:
        states: What `random_states` returned; a GPU's is left out where there is none.
    """
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    *keys, place = states["numpy"].tolist()
    gauss = states["numpy_gauss"].tolist()
    np.random.set_state(
        (
            "MT19937",
            np.array(keys, dtype=np.uint32),
            place,
            len(gauss),
            gauss[0] if gauss else 0.0,
        )
    )
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _gauss(value: float | None) -> torch.Tensor:
    return torch.tensor([] if value is None else [value], dtype=torch.float64)
