"""The installed transformers against the engine, family by family and case by case."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers

from sightline.checks.sequences import CASES, Case, write_case
from sightline.errors import LayoutError, ModelError, first_line
from sightline.families import FAMILIES, Family
from sightline.model import ReferenceFamily, reference_family
from sightline.positions import place_batch, placeholder_kinds
from sightline.rotary import MRotaryEmbedding

Verdict = Literal["agrees", "differs", "raises", "refused", "absent"]
_VIDEO = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseResult:
    """One case of one family.

    Attributes:
        case: Name of the case.
        verdict: ``agrees``; ``differs``; ``raises``: transformers fails; ``refused``: the
            engine does not place it, with the reason; ``absent``: the family has no such input.
        meaning: What it means for who serves the model, one sentence; empty where it agrees.
        theirs: First position that differs, by transformers.
        ours: The same, by the engine.
    """

    case: str
    verdict: Verdict
    meaning: str = ""
    theirs: int | None = None
    ours: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyResult:
    """All cases of one family.

    Attributes:
        key: The family's key.
        title: Its name.
        cases: Results in the order of `CASES`.
        rotary_difference: Largest difference of a cosine or sine from transformers' own rotary
            module, float32, positions up to 32,768; None where the family is not installed.
        missing: Why the family could not be compared; empty where it was.
    """

    key: str
    title: str
    cases: tuple[CaseResult, ...] = ()
    rotary_difference: float | None = None
    missing: str = ""

    @property
    def differing(self) -> tuple[CaseResult, ...]:
        """Cases in which transformers places tokens elsewhere, or fails."""
        return tuple(case for case in self.cases if case.verdict in ("differs", "raises"))


def compare_installed(keys: tuple[str, ...] = tuple(FAMILIES)) -> list[FamilyResult]:
    """Compare the installed transformers with the engine.

    Args:
        keys: Families to compare.
    """
    return [compare_family(FAMILIES[key]) for key in keys]


def compare_family(family: Family) -> FamilyResult:
    """Every case of one family, and its rotary module."""
    try:
        reference = reference_family(family)
    except ModelError as error:
        return FamilyResult(key=family.key, title=family.title, missing=str(error))
    return FamilyResult(
        key=family.key,
        title=family.title,
        cases=tuple(compare_case(case, reference) for case in CASES),
        rotary_difference=_rotary_difference(reference),
    )


def compare_case(case: Case, reference: ReferenceFamily) -> CaseResult:
    """One case: positions of every token that is not padding, and the rope deltas."""
    rope = reference.rule.rope
    if case.has_video and not rope.takes_videos:
        return CaseResult(case=case.name, verdict="absent")
    inputs = write_case(case, reference)
    try:
        placed = place_batch(inputs["input_ids"], reference.rule, **_grids(inputs))
    except LayoutError as error:
        return CaseResult(case=case.name, verdict="refused", meaning=first_line(error))
    version = f"transformers {transformers.__version__}"
    try:
        theirs, their_deltas = call_rope_index(reference.model, inputs, reference.rule)
    except Exception as error:  # whatever an upstream release raises is the finding
        reason = f"plain {version} fails on it: {type(error).__name__}"
        return CaseResult(case=case.name, verdict="raises", meaning=reason)
    ours, mask = placed.model_position_ids[1:], inputs["attention_mask"].bool()
    differs = ((theirs != ours).any(dim=0)) & mask
    if not bool(differs.any()):
        if torch.equal(their_deltas.long(), placed.rope_deltas):
            return CaseResult(case=case.name, verdict="agrees")
        meaning = f"rope_deltas are {their_deltas.flatten().tolist()} by plain {version} and "
        meaning += f"{placed.rope_deltas.flatten().tolist()} by Sightline"
        return CaseResult(case=case.name, verdict="differs", meaning=meaning)
    row, token = (int(index) for index in differs.nonzero()[0])
    their_place, our_place = int(theirs[0, row, token]), int(ours[0, row, token])
    kinds = placeholder_kinds(inputs["input_ids"][row].numpy(), reference.rule)
    what = "text after a video" if kinds[token] == 0 else "a part of a video"
    if not case.has_video:
        what = "text after an image" if kinds[token] == 0 else "an image"
    meaning = (
        f"{what} is placed at {their_place} instead of {our_place} when served by plain "
        f"{version}; Sightline agrees with {rope.who_agrees}"
    )
    return CaseResult(
        case=case.name, verdict="differs", meaning=meaning, theirs=their_place, ours=our_place
    )


def call_rope_index(
    model: Any, inputs: dict[str, Any], rule: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions by the model's own class, however its release names the arguments.

    Args:
        model: An object with ``get_rope_index``.
        inputs: As from `write_case`.
        rule: The family's position rule, for the token types.

    Returns:
        (3, batch, seq) positions, and (batch, 1) deltas.
    """
    kinds = placeholder_kinds(inputs["input_ids"].numpy(), rule)
    offered = inputs | {
        "mm_token_type_ids": torch.from_numpy(kinds).int(),
        "second_per_grids": inputs["second_per_grid_ts"],
    }
    taken = inspect.signature(model.get_rope_index).parameters
    positions, deltas = model.get_rope_index(
        **{key: value for key, value in offered.items() if key in taken and value is not None}
    )
    return positions, deltas.reshape(-1, 1)


def _grids(inputs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key != "input_ids"}


def _rotary_difference(reference: ReferenceFamily) -> float:
    module, _ = reference.rotary()
    generator = torch.Generator().manual_seed(0)
    positions = torch.randint(0, 32768, (3, 2, 64), generator=generator)
    with torch.device("cpu"):
        ours = MRotaryEmbedding.from_config(reference.config)(positions)
        theirs = module(torch.zeros(1), positions)
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
