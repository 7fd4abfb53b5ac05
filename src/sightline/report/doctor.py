"""The doctor's tables: what the installed transformers does elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from sightline.report.terminal import make_table


def doctor_table(families: Sequence[Mapping[str, Any]]) -> Table:
    """One line a family: how many cases agree, and which do not.

    Args:
        families: The families of ``sightline doctor --json``.
    """
    table = make_table()
    table.add_column("family", no_wrap=True)
    table.add_column("positions", no_wrap=True)
    table.add_column("rotary", no_wrap=True)
    table.add_column("what differs", ratio=1)
    for family in families:
        if family["missing"]:
            table.add_row(family["title"], "-", "-", Text(family["missing"], style="dim"))
            continue
        compared = [case for case in family["cases"] if case["verdict"] in _COMPARED]
        agreeing = [case for case in compared if case["verdict"] == "agrees"]
        all_agree = len(agreeing) == len(compared)
        table.add_row(
            family["title"],
            Text(f"{len(agreeing)} of {len(compared)}", style="green" if all_agree else "red"),
            rotary_words(family["rotary_difference"]),
            ", ".join(case["case"] for case in compared if case["verdict"] != "agrees") or "-",
        )
    return table


def doctor_sentences(families: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each difference means for who serves such a model, one sentence a family and kind."""
    sentences = []
    for family in families:
        differing = [case for case in family["cases"] if case["verdict"] == "differs"]
        others = [case for case in family["cases"] if case["verdict"] in ("raises", "refused")]
        for case in differing[:1] + others:
            words = case["meaning"].rstrip(".")
            sentences.append(f"{family['title']}, {case['case']}: {words}.")
    return sentences


_COMPARED = ("agrees", "differs", "raises")


def rotary_words(difference: float) -> str:
    """A difference of cosines in words.

    >>> rotary_words(0.0), rotary_words(0.25)
    ('equal', '0.25')
    """
    return "equal" if difference <= 1e-6 else f"{difference:.2g}"
