"""What the parts of a sample cost a planned model, from its shapes alone.

Matrix products are counted, forward and backward, as the plan lets them happen: a frozen tower
that nothing trains below costs a third of one that trains in full.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sightline.data.batches import CostRates
from sightline.model import Checkpoint, skeleton
from sightline.tuning import TOWERS, Place, PlannedModule, TuningPlan, place_of

# Attention: two products of every pair forward, five backward, where scores are computed again.
_PRODUCTS_FORWARD, _PRODUCTS_BACKWARD = 2, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """A matrix of the model.

    Attributes:
        name: Dotted name.
        place: Where it is.
        num_in: Numbers that a token has before it.
        num_out: Numbers that a token has behind it.
    """

    name: str
    place: Place
    num_in: int
    num_out: int

    @property
    def is_checkpointed(self) -> bool:
        return self.place.tower in ("vision", "language") and self.place.number is not None


def cost_rates(
    checkpoint: Checkpoint,
    plan: TuningPlan | None = None,
    *,
    stage: int = 0,
    packed: bool,
    checkpointing: bool,
) -> CostRates:
    """What the parts of a sample cost, floating-point operations.

    Args:
        checkpoint: The opened checkpoint.
        plan: What trains; None for everything in full.
        stage: Number of the stage, 0-based.
        packed: Whether samples lie end to end: attention then runs over each alone and computes
            no pair that it masks, which is half of them.
        checkpointing: Whether blocks are computed again in the backward pass.

    Reference: `torch.utils.flop_counter` of torch 2.15, in tests/unit/preparation/test_costs.py.
    """
    modules = checkpoint.family.modules
    layers = [
        _Layer(name=name, place=place_of(name, modules), num_in=shape[0], num_out=shape[1])
        for name, module in skeleton(checkpoint).named_modules()
        if (shape := _shape(module)) is not None
    ]
    passes = _Passes(layers, plan, stage, checkpointing=checkpointing)
    merge = checkpoint.position_rule.spatial_merge_size
    per_tower = {
        tower: sum(passes.of(layer) for layer in layers if layer.place.tower == tower)
        for tower in TOWERS
    }
    attention = {layer.place: layer for layer in layers if layer.place.kind == "attention"}
    pairs = {"language": 0.0, "vision": 0.0}
    per_window_pair = 0.0
    full_blocks, window = _windows(checkpoint, merge)
    # The last matrix of an attention takes what its heads give.
    for place, layer in attention.items():
        cost = passes.of_pair(place) * layer.num_in
        if place.tower == "vision" and full_blocks is not None and place.number not in full_blocks:
            per_window_pair += cost
        else:
            pairs[place.tower] += cost
    return CostRates(
        per_token=per_tower["language"],
        per_token_pair=pairs["language"] / (2 if packed else 1),
        per_supervised_token=per_tower["head"],
        # A patch of a window sees so many; those at the border of a picture see fewer.
        per_patch=per_tower["vision"]
        + per_tower["projector"] / merge**2
        + per_window_pair * window,
        per_patch_pair=pairs["vision"],
    )


class _Passes:
    """How often a matrix is multiplied in a step.

    Args:
        layers: All matrices of the model.
        plan: What trains; None for everything in full.
        stage: Number of the stage, 0-based.
        checkpointing: Whether blocks are computed again.
    """

    def __init__(
        self, layers: list[_Layer], plan: TuningPlan | None, stage: int, *, checkpointing: bool
    ) -> None:
        self._planned = None if plan is None else plan.by_name()
        self._stage = stage
        self._checkpointing = checkpointing
        # In the model's order, so the last of a block stays.
        self._last = set({_depth(layer.place): layer.name for layer in layers}.values())
        depths = [_depth(layer.place) for layer in layers]
        if plan is not None:
            depths = [_depth(module.place) for module in plan.modules if module.trains_in(stage)]
        # Gradients flow back to what trains first and no further.
        self._first = min(depths)
        self._tied = plan is not None and plan.is_tied and "embeddings" in plan.towers_in(stage)

    def of(self, layer: _Layer) -> float:
        """Operations of a matrix for one token."""
        reached = _depth(layer.place) >= self._first
        planned = None if self._planned is None else self._planned[layer.name]
        trains = planned is None or planned.trains_in(self._stage)
        num_lora = 0
        if planned is not None:
            trains = trains and planned.mode == "full"
            num_lora = self._rank(planned) * (layer.num_in + layer.num_out)
        if layer.place.tower == "head":
            trains = trains or self._tied
        # A block is computed again up to its last matrix: nobody keeps what that one gives.
        again = layer.name not in self._last or num_lora > 0
        forwards = 2 if reached and again and self._checkpointing and layer.is_checkpointed else 1
        # Pixels need no gradient.
        reached = reached and layer.place.kind != "embedding"
        size = layer.num_in * layer.num_out
        # The factors of LoRA are multiplied like weights that train.
        return 2.0 * (size * (forwards + reached + trains) + num_lora * (forwards + 2))

    def of_pair(self, place: Place) -> float:
        """Operations of an attention for one pair of tokens and number of a head."""
        if _depth(place) < self._first:
            return 2.0 * _PRODUCTS_FORWARD
        forwards = _PRODUCTS_FORWARD * (2 if self._checkpointing else 1)
        return 2.0 * (forwards + _PRODUCTS_BACKWARD)

    def _rank(self, planned: PlannedModule) -> int:
        return planned.rank if planned.mode == "lora" and planned.trains_in(self._stage) else 0


def _depth(place: Place) -> tuple[int, int]:
    """How far along the flow of the data a layer is: its tower, and its block there."""
    if place.number is not None:
        return TOWERS.index(place.tower), place.number
    # What is in no block embeds patches in front of them, or norms what comes out.
    return TOWERS.index(place.tower), -1 if place.kind == "embedding" else 1_000_000


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """Numbers before and behind a matrix; None where a module is none.

    A convolution of patches that do not overlap is one.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        return module.weight[0].numel(), module.out_channels
    return None


def _windows(checkpoint: Checkpoint, merge: int) -> tuple[frozenset[int] | None, int]:
    """Vision blocks that see the whole frame, and patches of a window; None where all blocks do."""
    vision = checkpoint.config.vision_config.to_dict()
    if "fullatt_block_indexes" not in vision:
        return None, 0
    side = vision["window_size"] // (merge * vision["patch_size"]) * merge
    return frozenset(vision["fullatt_block_indexes"]), side**2
