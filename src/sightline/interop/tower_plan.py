"""How towers train, filled in by the importers; a tower is one word until it needs more."""

from __future__ import annotations

import json
from typing import Any

from sightline.config import TowerName
from sightline.interop.imported import Verdict
from sightline.interop.layer_names import NamedPart
from sightline.interop.ledger import Ledger, our_default

TIED = "Where the two are tied, set both alike."
_NOT_MERGED = (
    "Merged into a quantised base, most of what was learnt is rounded away: the adapter alone is "
    "written, and verified on the base that it trained on."
)


def mode_of(ledger: Ledger, tower: TowerName) -> str:
    """How a tower trains by now, its parts left out."""
    found = ledger.values.get("tuning", {}).get(tower)
    if isinstance(found, dict):
        found = found.get("mode")
    return str(our_default(f"tuning.{tower}") if found is None else found)


def does_train(ledger: Ledger, tower: TowerName) -> bool:
    """Whether anything of a tower trains by now."""
    found = ledger.values.get("tuning", {}).get(tower)
    parts = found.get("parts", []) if isinstance(found, dict) else []
    return mode_of(ledger, tower) != "freeze" or any(part["mode"] != "freeze" for part in parts)


def set_part(ledger: Ledger, part: NamedPart, mode: str) -> None:
    """Let a tower, or a part of it, train in one way; what was said of it before is dropped."""
    target = f"tuning.{part.tower}"
    if part.blocks is None and part.kind is None:
        found = ledger.values.get("tuning", {}).get(part.tower)
        if isinstance(found, dict):
            found.pop("parts", None)
        ledger.put(target, mode)
        return
    if mode_of(ledger, part.tower) == mode and not _parts(ledger, part.tower):
        return
    # A number stands as one: in quotes it would be refused.
    blocks = int(part.blocks) if part.blocks and part.blocks.isdigit() else part.blocks
    one = {"mode": mode, "blocks": blocks, "kind": part.kind}
    said = {name: value for name, value in one.items() if value is not None}
    ledger.put(f"{target}.parts", [*_parts(ledger, part.tower), said])
    ledger.put(f"{target}.mode", mode_of(ledger, part.tower))


def _parts(ledger: Ledger, tower: TowerName) -> list[dict[str, Any]]:
    found = ledger.values.get("tuning", {}).get(tower)
    return found.get("parts", []) if isinstance(found, dict) else []


def tower_value(ledger: Ledger, tower: TowerName) -> Any:
    """A tower as run.yaml has it by now."""
    return ledger.values.get("tuning", {}).get(tower, our_default(f"tuning.{tower}"))


def is_tied(ledger: Ledger) -> bool | None:
    """Whether the model ties its head to its token embedding; None where no folder tells it."""
    try:
        file = ledger.folder / ledger.values["model"] / "config.json"
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    inner = content.get("text_config") or {}
    found = content.get("tie_word_embeddings", inner.get("tie_word_embeddings"))
    return found if isinstance(found, bool) else None


def match_tied(ledger: Ledger, key: str) -> None:
    """Let embedding and head train alike where they are known to be one weight.

    Args:
        ledger: What is filled.
        key: The key that trains one of the two.
    """
    modes = {tower: mode_of(ledger, tower) for tower in ("embeddings", "head")}
    frozen = [tower for tower, mode in modes.items() if mode == "freeze"]
    if len(frozen) == 1 and "full" in modes.values() and is_tied(ledger):
        note = "This model ties embedding and head: one weight cannot be frozen and trained."
        ledger.put(f"tuning.{frozen[0]}", "full")
        ledger.row(key, "(tied)", f"tuning.{frozen[0]}", "full", "differs", note)


def carry_saved(ledger: Ledger, key: str, name: str, parts: list[NamedPart], endings: str) -> None:
    """Carry over one module that trains in full beside LoRA.

    Args:
        ledger: What is filled.
        key: The other tool's key.
        name: The module's name there.
        parts: What it means.
        endings: Paths of the deepstack mergers; empty where the family has none.
    """
    if not parts:
        note = "Which part is meant cannot be told: write tuning.TOWER.parts, or modules_to_save."
        ledger.none(key, name, note)
        return
    for part in parts:
        set_part(ledger, part, "full")
        note = "Trained in full, as there."
        verdict: Verdict = "carried"
        if part.tower in ("embeddings", "head"):
            note = f"{note} {TIED}"
        elif part.tower == "projector" and part.kind is None and endings:
            note = f"Theirs takes the merger alone; here {endings} trains with it."
            verdict = "differs"
        elif part.kind == "norm":
            note = "Every norm of the decoder."
        result = tower_value(ledger, part.tower)
        ledger.row(key, name, f"tuning.{part.tower}", result, verdict, note)
    match_tied(ledger, key)


def carry_quantization(
    ledger: Ledger, key: str, bits: int, kind: str, method: str, note: str
) -> None:
    """Carry a quantised base over, and what follows from it for the export.

    Args:
        ledger: What is filled.
        key: The other tool's key of the number of bits.
        bits: The number.
        kind: nf4 or fp4, of 4 bits.
        method: What quantises there; ``bnb`` is bitsandbytes.
        note: What to know about where theirs quantises; empty where it is as here.
    """
    result = kind if bits <= 4 else "int8"
    said = []
    if method != "bnb" or bits not in (4, 8):
        said.append(f"Theirs is {bits} bits by {method}; here bitsandbytes' {result}.")
    if note:
        said.append(note)
    verdict: Verdict = "differs" if said else "carried"
    ledger.write(key, bits, "tuning.quantization", result, verdict, " ".join(said))
    ledger.write(key, bits, "export.merged", False, "differs", _NOT_MERGED)
