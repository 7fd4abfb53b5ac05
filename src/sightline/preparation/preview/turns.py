"""The text of a sample, turn by turn, read back from its token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.data import IGNORE_INDEX, EncodedSample
from sightline.families import Tokens
from sightline.positions import SpanKind
from sightline.records.preview import ShownPiece, ShownTurn

# More would make a page that no browser scrolls.
_MAX_PIECES = 4000
_MIN_PIECES_A_TURN = 48
# UTF-8 has at most four bytes a character, and a token at least one of them.
_MAX_TOKENS_A_CHARACTER = 4
_HALF = "\ufffd"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadTurn:
    """A turn as the tokens say it.

    Attributes:
        shown: The turn for the page.
        text: All its text, control tokens and role included, placeholders left out.
        num_images: Images that it brings.
    """

    shown: ShownTurn
    text: str
    num_images: int


class TurnReader:
    """Reads turns back from token ids, for one checkpoint.

    Args:
        tokenizer: The checkpoint's tokenizer.
        tokens: The family's special tokens.
    """

    def __init__(self, tokenizer: Any, tokens: Tokens) -> None:
        self._tokenizer = tokenizer
        self._turn_start: int = tokenizer.convert_tokens_to_ids(tokens.turn_start)
        self._placeholders = {"image": tokens.image_pad, "video": tokens.video_pad}
        self._special = frozenset(tokenizer.added_tokens_decoder)
        self._texts: dict[int, str] = {}

    def read(self, sample: EncodedSample) -> list[ReadTurn]:
        """The turns of a sample, in order; together they have all of its tokens."""
        starts = np.flatnonzero(sample.input_ids == self._turn_start).tolist()
        starts[:1] = [0]
        stops = [*starts[1:], sample.num_tokens]
        media = _media_by_start(sample)
        most = max(_MAX_PIECES // len(starts), _MIN_PIECES_A_TURN)
        return [
            self._turn(sample, slice(start, stop), media, most)
            for start, stop in zip(starts, stops, strict=True)
        ]

    def _turn(
        self, sample: EncodedSample, where: slice, media: dict[int, _Medium], most: int
    ) -> ReadTurn:
        pieces = list(self._pieces(sample, where, media))
        text = "".join(piece.text for piece in pieces if piece.kind in ("text", "special"))
        supervised = int((sample.labels[where] != IGNORE_INDEX).sum())
        role = text.removeprefix(self._text([self._turn_start])).partition("\n")[0]
        return ReadTurn(
            shown=ShownTurn(
                role=role if len(role) <= 20 else "",
                start=where.start,
                num_tokens=where.stop - where.start,
                num_supervised_tokens=supervised,
                pieces=tuple(_bounded(pieces, most)),
            ),
            text=text,
            num_images=sum(1 for piece in pieces if piece.kind == "image"),
        )

    def _pieces(
        self, sample: EncodedSample, where: slice, media: dict[int, _Medium]
    ) -> Iterator[ShownPiece]:
        ids = sample.input_ids.tolist()
        is_supervised = (sample.labels != IGNORE_INDEX).tolist()
        at = where.start
        while at < where.stop:
            medium = media.get(at)
            if medium is not None:
                yield ShownPiece(
                    kind=medium.kind,
                    text=self._placeholders[medium.kind],
                    num_tokens=medium.num_tokens,
                    is_supervised=any(is_supervised[at : at + medium.num_tokens]),
                    medium=medium.number,
                )
                at += medium.num_tokens
                continue
            stop = self._character_end(ids, is_supervised, at, where.stop)
            yield ShownPiece(
                kind="special" if ids[at] in self._special else "text",
                text=self._text(ids[at:stop]),
                num_tokens=stop - at,
                is_supervised=is_supervised[at],
            )
            at = stop

    def _character_end(self, ids: list[int], supervised: list[bool], at: int, stop: int) -> int:
        """Behind the tokens that are needed for whole characters; one where none helps."""
        for end in range(at + 1, min(at + _MAX_TOKENS_A_CHARACTER, stop) + 1):
            last = end - 1
            if last > at and (ids[last] in self._special or supervised[last] != supervised[at]):
                break
            if _HALF not in self._text(ids[at:end]):
                return end
        return at + 1

    def _text(self, ids: Sequence[int]) -> str:
        if len(ids) > 1:
            return self._decoded(ids)
        [only] = ids
        if only not in self._texts:
            self._texts[only] = self._decoded(ids)
        return self._texts[only]

    def _decoded(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Medium:
    """A run of placeholders; ``number`` is that of the image or of the video."""

    kind: SpanKind
    number: int
    num_tokens: int


def _media_by_start(sample: EncodedSample) -> dict[int, _Medium]:
    """Runs of placeholders by their first token."""
    num_spans = sum(span.kind == "video" for _, span in sample.layout.vision_spans)
    # A video is one run, or one for each of its temporal grids.
    split = num_spans != len(sample.videos)
    video_of_span = [
        number
        for number, video in enumerate(sample.videos)
        for _ in range(video.grid_thw[0] if split else 1)
    ]
    media: dict[int, _Medium] = {}
    counts = {"image": 0, "video": 0}
    for where, span in sample.layout.vision_spans:
        number = counts[span.kind]
        counts[span.kind] += 1
        media[where.start] = _Medium(
            kind=span.kind,
            number=video_of_span[number] if span.kind == "video" else number,
            num_tokens=span.num_tokens,
        )
    return media


def _bounded(pieces: list[ShownPiece], most: int) -> Iterator[ShownPiece]:
    """The pieces, or their begin and end with what is between them counted."""
    if len(pieces) <= most:
        yield from pieces
        return
    head = most * 3 // 4
    tail = most - head
    hidden = pieces[head:-tail]
    yield from pieces[:head]
    for wanted in (False, True):
        num_tokens = sum(item.num_tokens for item in hidden if item.is_supervised == wanted)
        if num_tokens:
            yield ShownPiece(kind="hidden", text="", num_tokens=num_tokens, is_supervised=wanted)
    yield from pieces[-tail:]
