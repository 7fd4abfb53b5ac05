"""Samples as ``sightline preview`` shows them: what preparation finds out and the page draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sightline.families.record import BoxSpace, TemporalRule

Verdict = Literal["agrees", "rounded", "differs", "missing", "outside", "inverted", "text_only"]
PieceKind = Literal["text", "special", "image", "video", "hidden"]

# The model is taught another box than the one that was annotated, or no box at all.
WRONG: tuple[Verdict, ...] = ("differs", "missing", "outside", "inverted")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownMedium:
    """A picture or a video as the model sees it.

    Attributes:
        name: Path of its file.
        file_size: (height, width) of a picture or a frame of the file upright, pixels.
        full_size: (height, width) at the run's own limits, pixels.
        seen_size: (height, width) that the model sees, pixels.
        grid_thw: Raw patches, before merging.
        patch_size: Side of a raw patch, pixels that the model sees.
        merge: Raw patches of a side that become one token.
        num_tokens: Tokens that it takes.
        fault: Why it cannot be decoded; None where it can.
    """

    name: str
    file_size: tuple[int, int]
    full_size: tuple[int, int]
    seen_size: tuple[int, int]
    grid_thw: tuple[int, int, int]
    patch_size: int
    merge: int
    num_tokens: int
    fault: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownPicture(ShownMedium):
    """A picture as the model sees it.

    Attributes:
        pixels: (height, width, 3) uint8, RGB; reduced where the model sees a large one. None
            where the file cannot be decoded.
    """

    pixels: np.ndarray | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownFrame:
    """A frame that is taken from a video.

    Attributes:
        index: Its number in the file, from 0.
        seconds: When it is shown.
        grid: The temporal grid that it is part of, from 0.
        is_repeat: Whether it is the frame before it once more, to fill the last grid.
        pixels: (height, width, 3) uint8, RGB, reduced.
    """

    index: int
    seconds: float
    grid: int
    is_repeat: bool
    pixels: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownVideo(ShownMedium):
    """A video as the model sees it.

    Attributes:
        duration_seconds: Length of the video.
        num_frames: Frames that are taken.
        seconds_per_grid: Seconds between two temporal grids, ``second_per_grid_ts``.
        grid_seconds: Seconds of every temporal grid.
        temporal_rule: Where the model finds the time: ``seconds`` in the positions, a count of
            grids there (``grid_index``), or text before every grid (``frame_per_span``).
        frames: Some of the frames that are taken, whole temporal grids, evenly chosen.
    """

    duration_seconds: float
    num_frames: int
    seconds_per_grid: float
    grid_seconds: tuple[float, ...]
    temporal_rule: TemporalRule
    frames: tuple[ShownFrame, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownBox:
    """A box or a point, annotated, read from the token text, or both.

    Attributes:
        images: The pictures it may lie in, from 0; more than one where the text does not say.
        turn: The turn it stands in, from 0.
        label: What it is said to be; empty where nothing is said.
        written: Its numbers as the token text has them, in the family's space; None where the
            text has none.
        redrawn: The same in pixels of the file of each of ``images``: x1, y1, x2, y2, or x, y.
        annotated: The annotation in pixels of the file; None where the source has none.
        iou: Intersection over union of both; None for points and where one is missing.
        verdict: ``agrees``; ``rounded``: an IoU under 0.97 that comes from whole numbers alone;
            ``differs``; ``missing`` from the text; ``outside`` of its picture; ``inverted``:
            corners out of order; ``text_only``: nothing to compare it with.
    """

    images: tuple[int, ...]
    turn: int
    label: str
    written: tuple[float, ...] | None
    redrawn: tuple[tuple[float, ...], ...]
    annotated: tuple[float, ...] | None
    iou: float | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownPiece:
    """One token, several that share a character, or a run of placeholders.

    Attributes:
        kind: ``text``; ``special``: a control token; ``image`` or ``video``: placeholders;
            ``hidden``: text that is left out of the page.
        text: What the tokens decode to; one placeholder of a run.
        num_tokens: Tokens that it stands for.
        is_supervised: Whether the loss sees it.
        medium: The image or video of a run of placeholders, from 0.
    """

    kind: PieceKind
    text: str
    num_tokens: int
    is_supervised: bool
    medium: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownTurn:
    """A turn of the conversation.

    Attributes:
        role: Who speaks, as the chat template writes it.
        start: Its first token.
        num_tokens: Its length.
        num_supervised_tokens: Tokens that the loss sees.
        pieces: Its tokens, in order.
    """

    role: str
    start: int
    num_tokens: int
    num_supervised_tokens: int
    pieces: tuple[ShownPiece, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownSpan:
    """A run of tokens of one kind.

    Attributes:
        kind: text, image or video.
        start: First token.
        stop: Token after the last one.
        label: Its kind and merged grid.
    """

    kind: str
    start: int
    stop: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownFit:
    """What was done to bring the sample under ``max_length``.

    Attributes:
        fate: kept or fitted, as in the ledger.
        policies: What was done, in order; of all pieces of the sample.
        reason: Why it had to be done.
        shrunk_to: Pixels of this conversation's media as a share of their full; None where no
            medium is shrunk.
        piece: Number among the conversations of one sample, from 0; None where it is one.
        num_pieces: Conversations that the sample became.
        turns: (first, behind the last) message that is left, the system's not counted; None
            for all.
    """

    fate: str
    policies: tuple[str, ...]
    reason: str | None
    shrunk_to: float | None
    piece: int | None
    num_pieces: int
    turns: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownSample:
    """A sample as the model will see it.

    Attributes:
        number: Its number in an epoch, from 0.
        origin: Where it stands in the data.
        title: The same without the folder.
        num_tokens: Length.
        num_vision_tokens: Placeholders of images and videos.
        num_supervised_tokens: Tokens that the loss sees.
        fit: What fitting did.
        pictures: Its images, as many as are shown.
        num_pictures: All its images.
        videos: Its videos, as many as are shown.
        num_videos: All its videos.
        boxes: Boxes and points of its turns.
        turns: Its text.
        position_ids: (3, seq) int64. Time, height and width position of every token.
        rope_delta: Largest position plus one, minus the length.
        spans: Its spans, in order; text that follows text is one.
    """

    number: int
    origin: str
    title: str
    num_tokens: int
    num_vision_tokens: int
    num_supervised_tokens: int
    fit: ShownFit
    pictures: tuple[ShownPicture, ...]
    num_pictures: int
    videos: tuple[ShownVideo, ...]
    num_videos: int
    boxes: tuple[ShownBox, ...]
    turns: tuple[ShownTurn, ...]
    position_ids: np.ndarray
    rope_delta: int
    spans: tuple[ShownSpan, ...]

    @property
    def wrong_boxes(self) -> tuple[ShownBox, ...]:
        """Boxes that teach something else than was annotated, or nothing that can be."""
        return tuple(box for box in self.boxes if box.verdict in WRONG)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A sample that no conversation is made of.

    Attributes:
        origin: Where it stands in the data.
        fate: dropped or quarantined, as in the ledger.
        field: The field that is at fault, where there is one.
        reason: Why.
    """

    origin: str
    fate: str
    field: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Some samples of a run.

    Attributes:
        family: Name of the model family.
        model: The checkpoint.
        max_length: The limit, tokens.
        fingerprint: That of the data.
        box_space: ``thousandths`` or ``resized_pixels``, in which the family writes boxes.
        num_conversations: Conversations of an epoch.
        fates: Input samples by fate, as in the ledger.
        samples: The samples that are shown.
        left_out: The first of the samples that are left out.
    """

    family: str
    model: str
    max_length: int
    fingerprint: str
    box_space: BoxSpace
    num_conversations: int
    fates: dict[str, int]
    samples: tuple[ShownSample, ...]
    left_out: tuple[LeftOut, ...]
