"""The merge: what of the adapter reached the saved weights, and what rounding took away."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding

# Of an update, in float32. Rounding takes a millionth; an adapter that was left out or put on
# twice is off by the whole of it.
TOLERANCE = 1e-2
# From here on a low-precision merge is worth a word.
_MUCH_LOST = 0.1
_TITLE = "Merging put the adapter into the saved weights, once"


class Rounding(NamedTuple):
    """What became of an adapter's updates.

    Attributes:
        lost: Norm of what the saved weights miss of the exact updates, over that of the updates.
        still: Share of the numbers that an update should move and that stand where the base's are.
        num_layers: Layers with an update that is not zero.
        worst: The layer that misses the largest share of its own.
    """

    lost: float
    still: float
    num_layers: int
    worst: str


def rounding(context: VerifyContext, adapted: Any | None) -> Finding:
    """Saved weights are the base's plus what the adapter adds, to what their dtype can hold.

    Args:
        context: The run under verification.
        adapted: The base with the adapter on it; None where the artefact is not made of both.
    """
    if adapted is None:
        why = "nothing was merged" if not context.is_merged else "this run has no adapter"
        return Finding(id="merge.rounding", title=_TITLE, holds=None, measured=why)
    found = measure(context, adapted)
    exact = context.probe.dtype == "float32"
    holds = found.lost <= TOLERANCE if exact else None
    advice = ""
    if holds is False:
        advice = "The adapter is not in the merged weights as it should be: export again."
    elif found.lost > _MUCH_LOST:
        advice = (
            f"{context.probe.dtype} cannot hold what was learnt: set training.precision to fp32, "
            "or serve the adapter unmerged (export.merged: false)."
        )
    return Finding(
        id="merge.rounding",
        title=_TITLE,
        holds=holds,
        measured=f"{found.lost:.2g} of the update is rounded away in {context.probe.dtype}; "
        f"{found.still:.1%} of its numbers did not move",
        tolerance=f"{TOLERANCE:g} of the update" if exact else "-",
        figures={
            "lost_share": found.lost,
            "still_share": found.still,
            "num_layers": found.num_layers,
            "dtype": context.probe.dtype,
        },
        detail=f"most in {found.worst}" if advice else "",
        advice=advice,
    )


def measure(context: VerifyContext, adapted: Any) -> Rounding:
    """Compare base, adapter and merged model, one layer at a time, in float32.

    Args:
        context: The run under verification; its model is the merged one.
        adapted: The base with the adapter on it.
    """
    saved = dict(context.plain_model.named_modules())
    lost = norm = 0.0
    still = moving = num_layers = 0
    shares: dict[str, float] = {}
    for name, layer in _layers(adapted):
        base = layer.get_base_layer().weight.detach().float()
        update = _exact(layer) - base
        reached = saved[name].weight.detach().float() - base
        missed, own = (float(one.double().square().sum()) for one in (reached - update, update))
        lost, norm = lost + missed, norm + own
        shares[name] = _share(missed, own)
        wanted = update != 0
        moving += int(wanted.sum())
        still += int((wanted & (reached == 0)).sum())
        num_layers += bool(wanted.any())
    worst = max(shares, key=lambda name: shares[name], default="")
    return Rounding(_share(lost, norm), still / moving if moving else 0.0, num_layers, worst)


def _share(lost: float, norm: float) -> float:
    """Of squared norms. What was put on a layer that has no update is all of one."""
    return (lost / norm) ** 0.5 if norm > 0 else float(lost > 0)


def _layers(adapted: Any) -> Iterator[tuple[str, Any]]:
    for name, module in adapted.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and hasattr(module.get_base_layer(), "weight"):
            yield name, module


def _exact(layer: Any) -> torch.Tensor:
    """The layer's weight with its adapter, by PEFT itself, in float32."""
    alone = copy.deepcopy(layer).float()
    alone.merge()
    return alone.get_base_layer().weight.detach()
