"""Keys of other tools that pack: samples laid end to end, and rows filled to a length.

With the first kind a batch counts samples, as here. With the second it counts rows of a length:
here such a step is a number of tokens.

Reference: PackedSupervisedDatasetProcessor of LLaMA-Factory 0.9.5; dataset/packing.py of ms-swift
4.6; tools/pack_data.py and data_processor.py of QwenLM's qwen-vl-finetune;
tests/unit/interop/test_packed_rows.py.
"""

from __future__ import annotations

from typing import NamedTuple

from sightline.interop.given_values import as_bool, as_count
from sightline.interop.imported import Verdict
from sightline.interop.ledger import Ledger

_TARGET = "training.packing"
_ALONE = "Each sample sees itself alone, as there."
_SEEN = (
    "Theirs lets the samples of a row see each other without neat_packing; here each sees itself "
    "alone."
)
_END_TO_END = (
    "A batch counts samples, as there; where the model can they lie end to end in place of "
    "padding, each seeing itself alone."
)
_OFFICIAL_LENGTH = 4096
NO_LENGTH = (
    "Theirs counts packed rows in a batch, as long as the model allows, which the file does not "
    "say. For steps of the same size set tokens_per_step and tokens_per_row in place of it."
)


class PackedRows(NamedTuple):
    """Rows that another tool fills with whole samples; its batch size counts them.

    Attributes:
        key: The key that says how long they are.
        length: Tokens of a row; None where the file does not tell.
        note: What to know of the length.
        verdict: Whether it is as there.
    """

    key: str
    length: int | None
    note: str = ""
    verdict: Verdict = "carried"


def llamafactory_rows(ledger: Ledger) -> PackedRows | None:
    """Carry over LLaMA-Factory's ``packing`` and ``neat_packing``.

    Returns:
        Its rows; None where a batch counts samples.
    """
    packing = ledger.take("packing", as_bool)
    neat = ledger.take("neat_packing", as_bool)
    if neat is not None:
        if neat:
            ledger.write("neat_packing", neat, _TARGET, "auto", "carried", _ALONE)
        elif packing:
            ledger.row("neat_packing", neat, _TARGET, "auto", "differs", _SEEN)
        else:
            ledger.none("neat_packing", neat, "Says nothing without packing.")
    if packing is False and neat:
        ledger.none("packing", packing, "neat_packing switches it on there, too.")
    elif packing and not neat:
        ledger.write("packing", packing, _TARGET, "auto", "differs", _SEEN)
    elif packing:
        ledger.write("packing", packing, _TARGET, "auto", "carried", _ALONE)
    elif packing is False:
        ledger.row("packing", packing, _TARGET, "auto", "carried", _END_TO_END)
    if not packing and not neat:
        return None
    given = ledger.asked("cutoff_len", as_count)
    note = "Theirs fills rows to one token less."
    if given is None:
        return PackedRows("cutoff_len", 2048, f"their default. {note}", "differs")
    return PackedRows("cutoff_len", given, note)


def swift_rows(ledger: Ledger) -> PackedRows | None:
    """Carry over ms-swift's ``packing``, ``packing_length`` and ``padding_free``.

    Returns:
        Its rows; None where a batch counts samples.
    """
    packing = ledger.take("packing", as_bool)
    free = ledger.take("padding_free", as_bool)
    length = ledger.take("packing_length", as_count)
    if free is not None:
        note = _ALONE if free else _END_TO_END
        ledger.write("padding_free", free, _TARGET, "auto", "carried", note)
    if not packing:
        if packing is False:
            ledger.row("packing", packing, _TARGET, "auto", "carried", _END_TO_END)
        if length is not None:
            ledger.none("packing_length", length, "Says nothing without packing.")
        return None
    limit = ledger.asked("max_length", as_count)
    if length is None and limit is None:
        ledger.write("packing", packing, _TARGET, "auto", "differs", NO_LENGTH)
        return PackedRows("packing", None)
    ledger.write("packing", packing, _TARGET, "auto", "carried", _ALONE)
    if length is not None:
        return PackedRows("packing_length", length)
    return PackedRows("max_length", limit, "packing_length is max_length there.")


def official_rows(ledger: Ledger) -> PackedRows | None:
    """Carry over ``data_flatten`` and ``data_packing`` of Qwen's own code.

    Returns:
        Its rows; None where a batch counts samples.
    """
    flat = ledger.take("data_flatten", as_bool)
    packed = ledger.take("data_packing", as_bool)
    for key, value in (("data_flatten", flat), ("data_packing", packed)):
        if value is not None:
            note = _ALONE if value else _END_TO_END
            ledger.write(key, value, _TARGET, "auto", "carried", note)
    if not packed:
        return None
    note = (
        "What tools/pack_data.py fills rows to unless it was edited, as it counts; for another "
        "length set it and tokens_per_step."
    )
    return PackedRows("data_packing", _OFFICIAL_LENGTH, note, "differs")
