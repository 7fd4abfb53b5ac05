"""What has moved: every tensor that trains beside what it was when the run began.

A tensor has moved where its sum or its sum of squares, in float64, is another. Two passes over
the weights that train, no copy of them: a token embedding moves only in the rows that it meets,
which a sample of values would miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from sightline.families import MappedFamily
from sightline.training.parallel import over_slices
from sightline.training.watching.weight_change import WeightChange
from sightline.tuning import (
    NamedParameter,
    Place,
    TuningPlan,
    owner_of,
    place_of,
    trained_parameters,
)


@dataclass(kw_only=True, slots=True)
class MovementRow:
    """Tensors of one kind in one block.

    Attributes:
        tower: The tower.
        block: The block inside it.
        kind: Kind of the layers.
        how: lora or full.
        num_tensors: Tensors that were to move.
        num_moved: Those that did.
        change: Norm of the change of the model's weights over their norm.
    """

    tower: str
    block: str
    kind: str
    how: str
    num_tensors: int = 0
    num_moved: int = 0
    change: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Movement:
    """How far a run has moved its weights.

    Attributes:
        step: Steps done.
        rows: By tower, block and kind.
        unmoved: Tensors that were to move and did not.
    """

    step: int
    rows: list[MovementRow]
    unmoved: list[str]

    def record(self) -> dict[str, Any]:
        """The movement as it stands in ``proof.json``."""
        return asdict(self)


class MovementWatch:
    """Remembers what every tensor that trains was.

    Args:
        model: The planned model, before the first step and before a checkpoint is loaded.
        plan: Its plan.
        family: Its family.
        change: Measures how far weights moved, from the same start.
    """

    def __init__(
        self, model: nn.Module, plan: TuningPlan, family: MappedFamily, change: WeightChange
    ) -> None:
        self._plan = plan
        self._family = family
        self._change = change
        self._items = trained_parameters(model, plan)
        self._names = tensor_names(self._items)
        self._start = _sums(self._items)

    @property
    def names(self) -> Sequence[str]:
        """A name for every tensor that trains in any stage."""
        return self._names

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Every tensor that trains in any stage, by its name."""
        return {name: item.parameter for name, item in zip(self._names, self._items, strict=True)}

    def measure(self, step: int, stages: Sequence[int], expected: set[str] | None) -> Movement:
        """Compare with the start.

        Args:
            step: Steps done.
            stages: Stages that have begun, 0-based; what trains in none of them is left out.
            expected: Names of tensors that had to move; None for all of those stages.
        """
        planned = self._plan.by_name()
        changes = self._change.by(lambda place: place)
        rows: dict[Place, MovementRow] = {}
        unmoved: list[str] = []
        now = _sums(self._items)
        for name, item, before, after in zip(
            self._names, self._items, self._start, now, strict=True
        ):
            module = planned[owner_of(item)]
            is_expected = expected is None or name in expected
            if not is_expected or not any(module.trains_in(stage) for stage in stages):
                continue
            place = place_of(item.name, self._family.modules)
            row = rows.setdefault(
                place,
                MovementRow(
                    tower=place.tower,
                    block=place.block,
                    kind=place.kind,
                    how=module.mode,
                    change=changes.get(place, 0.0),
                ),
            )
            row.num_tensors += 1
            if before == after:
                unmoved.append(name)
            else:
                row.num_moved += 1
        return Movement(step=step, rows=list(rows.values()), unmoved=unmoved)


def tensor_names(items: Sequence[NamedParameter]) -> list[str]:
    """A name for each tensor: LoRA factors have the layer's own, and which they are."""
    return [f"{owner_of(item)}.lora_{item.factor}" if item.factor else item.name for item in items]


@torch.no_grad()
def _sums(items: Sequence[NamedParameter]) -> list[tuple[float, float]]:
    """Sum and sum of squares of every tensor, float64; one transfer from the device."""
    if not items:
        return []
    pairs = over_slices([item.parameter for item in items], _pair)
    return [(first, second) for first, second in pairs.tolist()]


def _pair(tensor: torch.Tensor) -> torch.Tensor:
    squares = torch.linalg.vector_norm(tensor, dtype=torch.float64) ** 2
    return torch.stack((tensor.sum(dtype=torch.float64), squares))
