"""ms-swift's keys that freeze and unfreeze parameters by name, in full tuning.

Everything trains first, then the freezing keys hold, then those that let train again.

Reference: utils/transformers_utils.py of ms-swift 4.6; tests/unit/interop/test_swift_tuning.py.
"""

from __future__ import annotations

import re

from sightline.config import TOWER_NAMES, TowerName
from sightline.families import Modules
from sightline.interop.given_values import as_float, as_list, as_text
from sightline.interop.imported import Verdict
from sightline.interop.layer_names import (
    NamedPart,
    in_todays_names,
    layer_names,
    parts_named,
)
from sightline.interop.ledger import Ledger
from sightline.interop.tower_plan import match_tied, set_part

PARAMETER_KEYS = (
    "freeze_parameters freeze_parameters_regex freeze_parameters_ratio trainable_parameters "
    "trainable_parameters_regex"
)
_SELF = "Which part is meant cannot be told: write tuning.TOWER.parts."


def carry_parameters(ledger: Ledger, modules: Modules) -> None:
    """Carry over what is frozen and unfrozen by the names of parameters.

    Args:
        ledger: What is filled; the towers stand in it already.
        modules: Module paths of the family.

    Raises:
        ConfigError: A value is none.
    """
    _carry_ratio(ledger)
    for key, mode in (("freeze_parameters", "freeze"), ("trainable_parameters", "full")):
        for name in ledger.take(key, as_list) or []:
            _carry_prefix(ledger, key, name, mode, modules)
        _carry_regex(ledger, f"{key}_regex", mode, modules)
    match_tied(ledger, "trainable_parameters")


def _carry_ratio(ledger: Ledger) -> None:
    key = "freeze_parameters_ratio"
    ratio = ledger.take(key, as_float)
    if ratio is None:
        return
    if not 0 < ratio <= 1:
        ledger.none(key, ratio, "Nothing is frozen by it.")
        return
    towers: tuple[TowerName, ...] = ("vision", "embeddings")
    if ratio == 1:
        for tower in TOWER_NAMES:
            set_part(ledger, NamedPart(tower), "freeze")
        ledger.row(key, ratio, "tuning", "freeze", "carried", "All is frozen first.")
        return
    for tower in towers:
        set_part(ledger, NamedPart(tower), "freeze")
    blocks = f"first {max(1, round(100 * ratio))}%"
    set_part(ledger, NamedPart("language", blocks), "freeze")
    note = (
        "A share of the decoder's layers, with all before them. Theirs counts the weights of the "
        "whole model from the vision tower on."
    )
    ledger.row(key, ratio, "tuning.language.parts", f"{blocks}: freeze", "differs", note)


def _carry_prefix(ledger: Ledger, key: str, name: str, mode: str, modules: Modules) -> None:
    today = in_todays_names(name.strip("."))
    # A prefix counts from the beginning of a name, so an ending is no match.
    parts = parts_named(today, modules) if today.startswith(("model.", modules.head)) else []
    if not parts:
        ledger.none(key, name, _SELF)
        return
    said = []
    if today != name.strip("."):
        said.append(f"With today's transformers it is {today}, and theirs finds nothing.")
    if today[-1].isdigit() and not name.endswith("."):
        said.append(f"Theirs takes it as a beginning, which {today}0 has too.")
    for part in parts:
        set_part(ledger, part, mode)
        words = " ".join(filter(None, (part.kind, part.blocks and f"blocks {part.blocks}")))
        result = f"{words}: {mode}" if words else mode
        target = f"tuning.{part.tower}" + (".parts" if words else "")
        verdict: Verdict = "differs" if said else "carried"
        ledger.row(key, name, target, result, verdict, " ".join(said))


def _carry_regex(ledger: Ledger, key: str, mode: str, modules: Modules) -> None:
    given = ledger.take(key, as_text)
    if given is None:
        return
    try:
        expression = re.compile(given)
    except re.error as error:
        ledger.none(key, given, f"It is no regular expression ({error}): theirs passes over it.")
        return
    names: dict[TowerName, tuple[str, ...]] = {
        **layer_names(modules),
        "embeddings": (modules.embeddings,),
        "head": (modules.head,),
    }
    share: dict[TowerName, float] = {
        tower: sum(bool(expression.search(f"{name}.weight")) for name in inside) / len(inside)
        for tower, inside in names.items()
    }
    if not any(share.values()) or any(0 < part < 1 for part in share.values()):
        ledger.none(key, given, _SELF)
        return
    whole: list[TowerName] = [tower for tower, part in share.items() if part == 1]
    for tower in whole:
        set_part(ledger, NamedPart(tower), mode)
    ledger.row(key, given, f"tuning.{', '.join(whole)}", mode, "carried", "")
