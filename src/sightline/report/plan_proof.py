"""The proof of a plan as the page shows it: what got a gradient, and what moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.proof import batch_text, grouped_rows
from sightline.report.quantities import count_text, plural

_MAX_FAULTS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvenRow:
    """Tensors of one kind in one tower.

    Attributes:
        tower: The tower.
        kind: Kind of the layers.
        how: lora or full.
        tensors: Tensors that should train.
        reached: Those that one real batch gave a gradient.
        waiting: LoRA factors whose partner is still zero.
        without: Those with neither.
        gradient: L2 norm of their gradients.
        moved: How many moved over the run; a dash where it did not end.
        is_short: Whether some did not move.
    """

    tower: str
    kind: str
    how: str
    tensors: int
    reached: int
    waiting: int
    without: int
    gradient: float
    moved: str
    is_short: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ProofView:
    """What ``proof.json`` says.

    Attributes:
        holds: Whether everything is as the plan says, as far as the run went.
        title: The same in one line.
        words: What else is to be known.
        batch: What was sent before the first step.
        faults: The first tensors that are not as the plan says.
        rows: By tower, kind and way.
    """

    holds: bool
    title: str
    words: tuple[str, ...]
    batch: str
    faults: tuple[Mapping[str, str], ...]
    rows: tuple[ProvenRow, ...]


def view_proof(record: Mapping[str, Any] | None) -> ProofView | None:
    """The proof of a run; None where the run ended before it.

    Args:
        record: The content of ``proof.json``.
    """
    before = (record or {}).get("before")
    if record is None or before is None:
        return None
    unmoved = _unmoved(record)
    faults = [*before["faults"], *({"name": name, "what": "has not moved"} for name in unmoved)]
    tensors = sum(row["num_tensors"] for row in before["rows"])
    return ProofView(
        holds=not faults,
        title=_title(tensors, before["num_frozen"], len(faults)),
        words=tuple(_words(record, before, len(faults))),
        batch=batch_text(before),
        faults=tuple(faults[:_MAX_FAULTS]),
        rows=tuple(_rows(before["rows"], record.get("end"))),
    )


def _unmoved(record: Mapping[str, Any]) -> list[str]:
    looks = [*record.get("stages", ()), *([record["end"]] if record.get("end") else [])]
    # What moved later was only slow; the last look at a tensor's stage counts.
    return list(looks[-1]["unmoved"]) if looks else []


def _title(tensors: int, frozen: int, num_faults: int) -> str:
    if num_faults:
        return f"Not proven: {plural(num_faults, 'tensor')} not as the plan says"
    return (
        f"What trains is what the plan says: {plural(tensors, 'tensor')} reached, "
        f"{count_text(frozen)} frozen without a gradient"
    )


def _words(record: Mapping[str, Any], before: Mapping[str, Any], num_faults: int) -> list[str]:
    words = [before["cause"]] if before["cause"] else []
    if num_faults > _MAX_FAULTS:
        words.append(f"{count_text(num_faults - _MAX_FAULTS)} more stand in proof.json.")
    waiting = sum(row["num_waiting"] for row in before["rows"])
    if waiting:
        words.append(
            f"{count_text(waiting)} LoRA factors waited for a partner that is zero before step 1."
        )
    end = record.get("end")
    if end is None:
        words.append("The run did not end: how far its weights moved over it is not known.")
    else:
        moved = sum(row["num_moved"] for row in end["rows"])
        tensors = sum(row["num_tensors"] for row in end["rows"])
        words.append(
            f"After step {count_text(end['step'])}, {count_text(moved)} of "
            f"{plural(tensors, 'tensor')} had moved."
        )
    return words


def _rows(rows: Sequence[Mapping[str, Any]], end: Mapping[str, Any] | None) -> list[ProvenRow]:
    moved = grouped_rows(end["rows"]) if end else {}
    made = []
    for place, group in grouped_rows(rows).items():
        tensors, reached, waiting = (
            sum(row[key] for row in group) for key in ("num_tensors", "num_reached", "num_waiting")
        )
        ends = moved.get(place, [])
        num_moved = sum(row["num_moved"] for row in ends)
        num_ends = sum(row["num_tensors"] for row in ends)
        made.append(
            ProvenRow(
                tower=place[0],
                kind=place[1],
                how=place[2],
                tensors=tensors,
                reached=reached,
                waiting=waiting,
                without=tensors - reached - waiting,
                gradient=sum(row["gradient_norm"] ** 2 for row in group) ** 0.5,
                moved=count_text(num_moved) if ends else "–",
                is_short=num_moved < num_ends,
            )
        )
    return made
