"""Samples as the page shows them: pictures with boxes, question, annotation and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightline.report.answers import ComparedTexts, compare_texts
from sightline.report.overlaps import Boxes, mean_overlap
from sightline.report.pictures import Picture, Unshown, load_picture, load_strip

MAX_DRAWN_SAMPLES = 24
_MAX_PICTURES = 4
# Half the side of the square that marks a point, of the longer side of its picture.
_POINT_SHARE = 0.012


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnBox:
    """A box in the pixels of the picture as it stands in the page."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerView:
    """One answer of a model to a sample.

    Attributes:
        title: How the model was served.
        equal: Whether the answer is the annotation.
        texts: Both, with what differs.
        boxes: Boxes in the answer.
        alt: What picture and boxes show, in words.
        right: Whether it counts as right: equal, or, of held-out data, every box found.
        overlap: Mean IoU of the annotated boxes with the closest of the answer; None without boxes.
    """

    title: str
    equal: bool
    texts: ComparedTexts
    boxes: tuple[DrawnBox, ...]
    alt: str
    right: bool
    overlap: float | None

    def strays(self, annotated: tuple[DrawnBox, ...]) -> tuple[DrawnBox, ...]:
        """Boxes of the answer that the annotation does not have."""
        return tuple(box for box in self.boxes if box not in annotated)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleView:
    """One sample with its answers.

    Attributes:
        key: Unique in its page, for references inside it.
        place: Place in the order of the file.
        index: Index in the training data.
        origin: File and line.
        question: What was asked.
        pictures: Images, or frames of videos.
        num_hidden_media: Media that are not drawn.
        is_strip: Whether the pictures are frames.
        boxes: Annotated boxes, on the only picture.
        answers: The exported model's answer and, where there is one, the control's.
    """

    key: str
    place: int
    index: int
    origin: str
    question: str
    pictures: tuple[Picture | Unshown, ...]
    num_hidden_media: int
    is_strip: bool
    boxes: tuple[DrawnBox, ...]
    answers: tuple[AnswerView, ...]

    @property
    def is_drawable(self) -> bool:
        """Whether boxes can be drawn: the sample has one image, and it could be read."""
        return (
            len(self.pictures) == 1
            and not self.is_strip
            and (isinstance(self.pictures[0], Picture))
        )

    @property
    def score(self) -> float:
        """What orders samples, 0 to 1: overlap of the boxes; of answers without, whether right."""
        first = self.answers[0]
        return float(first.right) if first.overlap is None else round(first.overlap, 4)


class AnswerRow(NamedTuple):
    """The answers to all drawn samples, served in one way.

    Attributes:
        title: How the model was served.
        is_first: Whether this is the first way, whose pictures carry the bytes.
        answers: Every sample with its answer.
    """

    title: str
    is_first: bool
    answers: tuple[tuple[SampleView, AnswerView], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplesView:
    """The samples of a run.

    Attributes:
        samples: Those that are drawn.
        num_samples: All that were answered.
        num_equal: Answers of the exported model equal to the annotation.
        control_title: How the control was served; empty without a control.
        control_equal: The control's equal answers, or None without a control.
    """

    samples: tuple[SampleView, ...]
    num_samples: int
    num_equal: int
    control_title: str
    control_equal: int | None

    @property
    def num_left_out(self) -> int:
        """Samples that are not drawn."""
        return self.num_samples - len(self.samples)

    @property
    def rows(self) -> list[AnswerRow]:
        """The answers by the way the model was served."""
        titles = [answer.title for answer in self.samples[0].answers] if self.samples else []
        return [
            AnswerRow(
                title=title,
                is_first=place == 0,
                answers=tuple((sample, sample.answers[place]) for sample in self.samples),
            )
            for place, title in enumerate(titles)
        ]


def view_samples(
    predictions: Mapping[str, Any], *, root: Path, prefix: str = "s", limit: int = MAX_DRAWN_SAMPLES
) -> SamplesView:
    """Draw the samples of ``predictions.json``; where there are too many, those that differ first.

    Args:
        predictions: The file's content.
        root: The run directory, to which relative paths of media refer.
        prefix: Begins the keys of these samples.
        limit: How many are drawn at most.
    """
    rows: Sequence[dict[str, Any]] = predictions["samples"]
    control: Mapping[str, Any] | None = predictions.get("control")
    controls = {row["index"]: row for row in control["samples"]} if control else {}
    chosen = rows if len(rows) <= limit else sorted(rows, key=lambda row: row["equal"])[:limit]
    titled = str(control["title"]) if control else ""
    return SamplesView(
        samples=tuple(
            _probed(row, controls.get(row["index"]), titled, root, f"{prefix}{place}", place)
            for place, row in enumerate(chosen)
        ),
        num_samples=len(rows),
        num_equal=sum(1 for row in rows if row["equal"]),
        control_title=titled,
        control_equal=int(control["num_equal"]) if control else None,
    )


def _probed(
    row: dict[str, Any],
    control: dict[str, Any] | None,
    titled: str,
    root: Path,
    key: str,
    place: int,
) -> SampleView:
    rows = [one for one in (row, control) if one is not None]
    return view_sample(
        rows, ["Exported model", titled], root=root, key=key, place=place, number=row["index"]
    )


def view_sample(
    rows: Sequence[Mapping[str, Any]],
    titles: Sequence[str],
    *,
    root: Path,
    key: str,
    place: int,
    number: int,
) -> SampleView:
    """Draw one sample with its answers.

    Args:
        rows: One for each way the model was served, the first of which says what the sample is:
            ``file``, ``line``, ``question``, ``annotation``, ``answer``, ``equal``, ``media``,
            ``annotated_boxes``, ``predicted_boxes``, and ``right`` where that is not ``equal``.
        titles: How it was served each time.
        root: The folder to which relative paths of media refer.
        key: Unique in the page.
        place: Place in the order of the file.
        number: Number of the sample in the data.
    """
    row = rows[0]
    media = row["media"]
    pictures = _pictures(media, root)
    only = pictures[0] if len(media) == 1 and media[0]["kind"] == "image" else None
    line = row["line"]
    return SampleView(
        key=key,
        place=place,
        index=number,
        origin=Path(row["file"]).name + (f":{line}" if line is not None else ""),
        question=row["question"],
        pictures=tuple(pictures),
        num_hidden_media=max(0, len(media) - _MAX_PICTURES),
        is_strip=any(item["kind"] == "video" for item in media),
        boxes=_drawn(row["annotated_boxes"], only),
        answers=tuple(_answer(one, title, only) for one, title in zip(rows, titles, strict=False)),
    )


def _pictures(media: Sequence[Mapping[str, Any]], root: Path) -> list[Picture | Unshown]:
    """The sample's media: every image, or the frames of its videos, four files at most."""
    pictures: list[Picture | Unshown] = []
    for item in media[:_MAX_PICTURES]:
        path = root / item["path"]
        pictures.extend(load_strip(path) if item["kind"] == "video" else [load_picture(path)])
    return pictures


def _answer(row: Mapping[str, Any], title: str, picture: Picture | Unshown | None) -> AnswerView:
    return AnswerView(
        title=title,
        equal=row["equal"],
        texts=compare_texts(row["annotation"], row["answer"]),
        boxes=_drawn(row["predicted_boxes"], picture),
        alt=_alt(row),
        right=row.get("right", row["equal"]),
        overlap=mean_overlap(row["annotated_boxes"], row["predicted_boxes"]),
    )


def _drawn(boxes: Boxes, picture: Picture | Unshown | None) -> tuple[DrawnBox, ...]:
    """Boxes in pixels of the drawn picture; none where there is no single picture to draw on."""
    if not isinstance(picture, Picture):
        return ()
    drawn = []
    for item in boxes:
        x1, y1, x2, y2 = (side * picture.scale for side in _corners(item, picture))
        drawn.append(
            DrawnBox(
                label=str(item.get("label") or ""),
                x=round(min(x1, x2), 1),
                y=round(min(y1, y2), 1),
                width=round(abs(x2 - x1), 1),
                height=round(abs(y2 - y1), 1),
            )
        )
    return tuple(drawn)


def _corners(item: Mapping[str, Any], picture: Picture) -> list[float]:
    """Of a box; of a point those of a small square around it, in pixels of the file."""
    if "box" in item:
        return [float(side) for side in item["box"]]
    x, y = item["point"]
    reach = _POINT_SHARE * max(picture.width, picture.height) / picture.scale
    return [x - reach, y - reach, x + reach, y + reach]


def _alt(row: Mapping[str, Any]) -> str:
    media: Sequence[Mapping[str, Any]] = row["media"]
    names = ", ".join(Path(item["path"]).name for item in media) or "no picture"
    annotated, predicted = row["annotated_boxes"], row["predicted_boxes"]
    return f"{names}. Annotated: {_boxes_text(annotated)}. Predicted: {_boxes_text(predicted)}."


def _boxes_text(boxes: Boxes) -> str:
    """Boxes in words, in pixels of the file."""
    texts = []
    for item in boxes:
        sides = ", ".join(f"{side:.0f}" for side in item.get("box", item.get("point")))
        texts.append(f"{item.get('label') or 'box'} at {sides}")
    return "; ".join(texts) or "no box"
