"""An answer beside its annotation, with the parts that differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

# Words, numbers and single signs: a box that moved shows as its numbers, not as its letters.
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_MAX_SHOWN_CHARACTERS = 3000


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of text that is the same on both sides, or not."""

    text: str
    differs: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedTexts:
    """Annotation and answer in pieces.

    Attributes:
        annotation: Pieces of the annotation.
        answer: Pieces of the answer.
        num_hidden: Characters of the longer text that are not shown.
    """

    annotation: tuple[Piece, ...]
    answer: tuple[Piece, ...]
    num_hidden: int


def compare_texts(annotation: str, answer: str) -> ComparedTexts:
    """Mark what differs between an annotation and an answer.

    Args:
        annotation: What the data say.
        answer: What the model said.

    >>> [piece.text for piece in compare_texts("[57, 3]", "[5, 3]").answer if piece.differs]
    ['5']
    """
    longest = max(len(annotation), len(answer))
    first = _TOKEN.findall(annotation[:_MAX_SHOWN_CHARACTERS])
    second = _TOKEN.findall(answer[:_MAX_SHOWN_CHARACTERS])
    left: list[Piece] = []
    right: list[Piece] = []
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    for operation, start, stop, begin, end in matcher.get_opcodes():
        differs = operation != "equal"
        if stop > start:
            left.append(Piece(text="".join(first[start:stop]), differs=differs))
        if end > begin:
            right.append(Piece(text="".join(second[begin:end]), differs=differs))
    return ComparedTexts(
        annotation=tuple(left),
        answer=tuple(right),
        num_hidden=max(0, longest - _MAX_SHOWN_CHARACTERS),
    )
