"""What was alive when: allocations of a simulated step, and the peak that follows from them.

A block that stands for several alike is run once. What it keeps for the backward pass, and the
gradients of its parameters, are counted once for every block that it stands for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Direction = Literal["forward", "backward"]
Phase = Literal["forward", "head", "backward"]
Part = Literal["gradients", "activations", "logits", "transient"]

PARTS: tuple[Part, ...] = ("gradients", "activations", "logits", "transient")


class Segment(NamedTuple):
    """A stretch of the step in which one block runs that stands for several.

    Attributes:
        block: Its name.
        direction: Forward, or backward with what is computed again for it.
    """

    block: str
    direction: Direction


@dataclass(slots=True)
class _Storage:
    """A piece of memory; times are numbers of events.

    Attributes:
        num_bytes: Its size.
        born: When it was allocated.
        phase: Where the step was then.
        segment: The block that was running, where it stands for several.
        died: When it was freed.
        is_gradient: Whether it became the gradient of a parameter.
    """

    num_bytes: int
    born: int
    phase: Phase
    segment: Segment | None
    died: float = math.inf
    is_gradient: bool = False


@dataclass(slots=True)
class Timeline:
    """Records a step, then finds its peak.

    Attributes:
        copies: Blocks, beside itself, that a block stands for.
    """

    copies: Mapping[str, int]
    _storages: dict[int, _Storage] = field(default_factory=dict)
    _events: list[tuple[int, bool] | tuple[Segment, bool]] = field(default_factory=list)
    _phase: Phase = "forward"
    _segment: Segment | None = None
    _forward_ended: float = math.inf
    _ended: dict[Segment, int] = field(default_factory=dict)

    def allocate(self, key: int, num_bytes: int) -> None:
        """Memory of so many bytes is there; ``key`` names it and is never used again."""
        self._storages[key] = _Storage(num_bytes, len(self._events), self._phase, self._segment)
        self._events.append((key, True))

    def free(self, key: int) -> None:
        """It is gone."""
        self._storages[key].died = len(self._events)
        self._events.append((key, False))

    def mark_gradient(self, key: int) -> None:
        """It is the gradient of a parameter, and stays until the optimizer has stepped."""
        self._storages[key].is_gradient = True

    def enter_phase(self, phase: Phase) -> None:
        """What is allocated from now on belongs to another part of the step."""
        self._phase = phase

    def end_forward(self) -> None:
        """What is alive now is kept for the backward pass."""
        self._forward_ended = len(self._events)

    def enter(self, segment: Segment) -> None:
        """A block begins that may stand for several; one that is running ends."""
        self.leave()
        if segment.block in self.copies:
            self._segment = segment
            self._events.append((segment, True))

    def leave(self) -> None:
        """The block that is running ends, if one is."""
        if self._segment is not None:
            self._ended[self._segment] = len(self._events)
            self._events.append((self._segment, False))
            self._segment = None

    def peak(self) -> dict[Part, int]:
        """Bytes of every part at the moment at which most are alive."""
        self.leave()
        kept, grown = self._multiplied()
        live: Counter[Part] = Counter()
        best: dict[Part, int] = dict.fromkeys(PARTS, 0)
        best_total = 0
        # What the last block that a block stands for finds otherwise than the first.
        shift: Counter[Part] = Counter()
        for what, begins in self._events:
            if isinstance(what, Segment):
                shift = self._change(what, begins, kept, grown, live)
                continue
            storage = self._storages[what]
            live[self._part(storage)] += storage.num_bytes if begins else -storage.num_bytes
            if not begins:
                continue
            for late in (False, True) if shift else (False,):
                now: dict[Part, int] = {part: live[part] + late * shift[part] for part in PARTS}
                total = sum(now.values())
                if total > best_total:
                    best, best_total = now, total
        return best

    def kept(self) -> dict[Part, int]:
        """Bytes of activations and logits that the forward pass leaves to the backward pass."""
        kept, _ = self._multiplied()
        found: Counter[Part] = Counter()
        for storage in self._storages.values():
            if storage.born < self._forward_ended < storage.died:
                found[self._part(storage)] += storage.num_bytes
        for block, copies in self.copies.items():
            found["activations"] += copies * kept.get(block, 0)
        return {part: found[part] for part in PARTS}

    def _part(self, storage: _Storage) -> Part:
        if storage.is_gradient:
            return "gradients"
        if storage.phase == "head":
            return "logits"
        if storage.phase == "forward" and storage.died > self._forward_ended:
            return "activations"
        return "transient"

    def _multiplied(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes that one copy of a block keeps for its backward pass, and of its gradients."""
        kept: Counter[str] = Counter()
        grown: Counter[str] = Counter()
        for storage in self._storages.values():
            segment = storage.segment
            if segment is None:
                continue
            if segment.direction == "forward":
                if storage.died > self._forward_ended:
                    kept[segment.block] += storage.num_bytes
            elif storage.is_gradient and storage.died > self._ended[segment]:
                grown[segment.block] += storage.num_bytes
        return dict(kept), dict(grown)

    def _change(
        self,
        segment: Segment,
        begins: bool,
        kept: Mapping[str, int],
        grown: Mapping[str, int],
        live: Counter[Part],
    ) -> Counter[Part]:
        """Count the copies of a block where it begins or ends; the shift to its last copy."""
        copies = self.copies[segment.block]
        keeps = copies * kept.get(segment.block, 0)
        grows = copies * grown.get(segment.block, 0)
        shift: Counter[Part] = Counter()
        if segment.direction == "forward":
            if begins:
                # The last copy runs when the others have left what they keep.
                shift["activations"] = keeps
            else:
                live["activations"] += keeps
        elif begins:
            shift["activations"], shift["gradients"] = -keeps, grows
        else:
            live["activations"] -= keeps
            live["gradients"] += grows
        return shift
