"""The token text of a preview: runs with a loss and without, made of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sightline.records.preview import ShownPiece, ShownTurn
from sightline.report.quantities import plural
from sightline.report.visible import visible_text


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenView:
    """A token, or a run of them.

    Attributes:
        kind: text, break: a line break and nothing else, special, pad or hidden.
        text: What is shown.
        note: What stands behind it: the medium of a run of placeholders.
        target: Key of that medium in the sample: ``p0``; empty for others.
    """

    kind: str
    text: str
    note: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """Tokens that all have a loss, or none of them has."""

    is_supervised: bool
    tokens: tuple[TokenView, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnView:
    """A turn.

    Attributes:
        role: Who speaks.
        tokens: Its length and which of it the loss sees, in words.
        is_supervised: Whether the loss sees something of it.
        runs: Its text.
    """

    role: str
    tokens: str
    is_supervised: bool
    runs: tuple[RunView, ...]


def view_turns(turns: Sequence[ShownTurn]) -> tuple[TurnView, ...]:
    """The turns of a sample for the page."""
    return tuple(_view(turn) for turn in turns)


def _view(turn: ShownTurn) -> TurnView:
    last = turn.start + turn.num_tokens - 1
    said = f"{plural(turn.num_tokens, 'token')}, {turn.start:,} to {last:,}"
    if turn.num_supervised_tokens:
        said += f"; {turn.num_supervised_tokens:,} with a loss"
    return TurnView(
        role=visible_text(turn.role) or "text",
        tokens=said,
        is_supervised=turn.num_supervised_tokens > 0,
        runs=tuple(
            RunView(is_supervised=is_supervised, tokens=tuple(_tokens(pieces)))
            for is_supervised, pieces in groupby(turn.pieces, key=lambda piece: piece.is_supervised)
        ),
    )


def _tokens(pieces: Iterator[ShownPiece]) -> Iterator[TokenView]:
    for piece in pieces:
        text, kind, note, target = visible_text(piece.text), piece.kind, "", ""
        if piece.medium is not None:
            name = "picture" if piece.kind == "image" else "video"
            kind, target = "pad", f"{name[0]}{piece.medium}"
            text, note = f"{text} × {piece.num_tokens:,}", f"{name} {piece.medium + 1}"
        elif piece.kind == "hidden":
            text = f" … {plural(piece.num_tokens, 'token')} more … "
        elif piece.kind == "text" and text.strip("\n") == "":
            kind = "break"
        yield TokenView(kind=kind, text=text, note=note, target=target)
