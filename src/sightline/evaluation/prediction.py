"""A prediction: one answer beside its annotation, as a line of ``predictions.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.reading import read_answer
from sightline.records import read_jsonl

Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A box or a point in a picture.

    Attributes:
        label: What it is said to be; empty where nothing is said.
        numbers: x1, y1, x2, y2 or x, y, in pixels of the picture's file, upright.
        score: How sure the model was, 0 to 1; 1 of an annotation.
    """

    label: str
    numbers: Numbers
    score: float = 1.0

    @property
    def is_box(self) -> bool:
        """Whether it is a box, not a point."""
        return len(self.numbers) == 4

    def record(self, *, scored: bool) -> dict[str, Any]:
        """What is written."""
        sides = [round(number, 2) for number in self.numbers]
        found: dict[str, Any] = {"label": self.label, "box" if self.is_box else "point": sides}
        return found | ({"score": round(self.score, 6)} if scored else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """An answer of a model to one question of the data.

    Attributes:
        sample: Number of the conversation in the data, from 0.
        turn: Number of the answered turn among the conversation's messages, from 0.
        source: Name of the source.
        file: Data file.
        line: Its line there; None in tables.
        row: Its row there, from 0.
        place: Which part or piece of that row; empty for all of it.
        prompt: Words of the question; media are ``<image>`` and ``<video>``.
        annotation: The annotated answer, as the family writes it.
        answer: The answer, word by word.
        num_tokens: Tokens of the answer, the closing one included.
        is_cut: Whether it ended at the limit on new tokens.
        likelihood: Geometric mean of the probabilities of its tokens.
        media: Pictures and videos: kind, path, and sizes in the file and as seen, pixels.
        annotated: Annotated boxes and points.
        predicted: Boxes and points of the answer.
        repairs: What had to be mended to read the answer; see `ReadAnswer`.
        lost: Why something in it is no box and no point, one name each; besides those of
            `ReadAnswer`, ``no_picture``: it is not known which picture it is in.
        is_readable: False where boxes or points are annotated and nothing in the answer is a list.
    """

    sample: int
    turn: int
    source: str
    file: str
    line: int | None
    row: int
    place: str
    prompt: str
    annotation: str
    answer: str
    num_tokens: int
    is_cut: bool
    likelihood: float
    media: tuple[dict[str, Any], ...]
    annotated: tuple[Located, ...]
    predicted: tuple[Located, ...]
    repairs: tuple[str, ...]
    lost: tuple[str, ...]
    is_readable: bool

    @property
    def key(self) -> tuple[str, int | None, int, str, int]:
        """What names the question, whoever answered."""
        return self.file, self.line, self.row, self.place, self.turn

    def record(self) -> dict[str, Any]:
        """Its line."""
        return {
            "sample": self.sample,
            "turn": self.turn,
            "source": self.source,
            "file": self.file,
            "line": self.line,
            "row": self.row,
            "place": self.place,
            "prompt": self.prompt,
            "annotation": self.annotation,
            "answer": self.answer,
            "num_tokens": self.num_tokens,
            "is_cut": self.is_cut,
            "likelihood": round(self.likelihood, 6),
            "media": list(self.media),
            "annotated": [one.record(scored=False) for one in self.annotated],
            "predicted": [one.record(scored=True) for one in self.predicted],
            "repairs": list(self.repairs),
            "lost": list(self.lost),
            "is_readable": self.is_readable,
        }


def repairs_beyond(answer: str, annotation: str) -> frozenset[str]:
    """What had to be mended in an answer that its annotation does not have either.

    Args:
        answer: The answer.
        annotation: The annotated one.

    >>> repairs_beyond("```json\\n[{'a': 1}]\\n```", "```json\\n[]\\n```")
    frozenset({'single_quotes'})
    """
    return read_answer(answer).repairs - read_answer(annotation).repairs


def load_predictions(path: Path) -> list[Prediction]:
    """Predictions of a file, by ``sightline predict`` or written by others in its form.

    Of others, ``annotation`` and ``answer`` have to be there, and ``annotated`` and ``predicted``
    where boxes or points are to be measured; a box without a score counts as sure. ``file`` and
    ``line`` name the question where two files are compared; without them its place does.

    Raises:
        RunError: The file cannot be read, or is not JSONL.
        DataError: It is empty, or a line is no prediction; names line and field.
    """
    rows = read_jsonl(path) if path.is_file() else []
    if not rows:
        problem = "there is no prediction in it" if path.is_file() else "there is no such file"
        raise DataError(
            f"{problem}.", file=path, fix="Make predictions with sightline predict.", code="empty"
        )
    found = [_prediction(row, path, number) for number, row in enumerate(rows, start=1)]
    seen: dict[tuple[object, ...], int] = {}
    for number, one in enumerate(found, start=1):
        if one.key in seen:
            raise DataError(
                f"this question is answered in line {seen[one.key]} already.",
                file=path,
                line=number,
                fix="Keep one line a question.",
            )
        seen[one.key] = number
    return found


def _prediction(row: Any, path: Path, number: int) -> Prediction:
    reader = _Reader(row, path, number)
    answer, annotation = reader.text("answer"), reader.text("annotation")
    read = read_answer(answer)
    annotated, predicted = reader.located("annotated"), reader.located("predicted")
    return Prediction(
        sample=reader.number("sample", number - 1),
        turn=reader.number("turn", 0),
        source=reader.text("source", path.name),
        file=reader.text("file", ""),
        line=None if row.get("line") is None else reader.number("line", number),
        # Without a place in the data the place in this file names the question.
        row=reader.number("row", number - 1 if row.get("line") is None else 0),
        place=reader.text("place", ""),
        prompt=reader.text("prompt", ""),
        annotation=annotation,
        answer=answer,
        num_tokens=reader.number("num_tokens", 0),
        is_cut=bool(row.get("is_cut", False)),
        likelihood=float(row.get("likelihood", 1.0)),
        media=tuple(row.get("media", ())),
        annotated=annotated,
        predicted=predicted,
        repairs=tuple(row.get("repairs", sorted(repairs_beyond(answer, annotation)))),
        lost=tuple(row.get("lost", read.lost)),
        is_readable=bool(row.get("is_readable", read.is_list or not annotated)),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Fields of a line, each of its kind or refused."""

    row: Any
    path: Path
    line: int

    def __post_init__(self) -> None:
        if not isinstance(self.row, dict):
            raise self._wrong(None, "a prediction is an object", self.row)

    def text(self, field: str, default: str | None = None) -> str:
        value = self.row.get(field, default)
        if not isinstance(value, str):
            raise self._wrong(field, "a text is wanted", value)
        return value

    def number(self, field: str, default: int) -> int:
        value = self.row.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(field, "a whole number is wanted", value)
        return value

    def located(self, field: str) -> tuple[Located, ...]:
        given = self.row.get(field, [])
        if not isinstance(given, list):
            raise self._wrong(field, "a list of boxes and points is wanted", given)
        return tuple(self._one(item, f"{field}[{place}]") for place, item in enumerate(given))

    def _one(self, item: Any, field: str) -> Located:
        sides = item.get("box", item.get("point")) if isinstance(item, dict) else None
        wanted = 4 if isinstance(item, dict) and "box" in item else 2
        if (
            not isinstance(sides, list)
            or len(sides) != wanted
            or not all(isinstance(side, int | float) for side in sides)
        ):
            raise self._wrong(field, "a box of 4 numbers or a point of 2 is wanted", item)
        score = item.get("score", 1.0)
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise self._wrong(f"{field}.score", "a number is wanted", score)
        numbers = tuple(float(side) for side in sides)
        return Located(label=str(item.get("label") or ""), numbers=numbers, score=float(score))

    def _wrong(self, field: str | None, wanted: str, given: Any) -> DataError:
        shown = repr(given) if len(repr(given)) <= 60 else f"{repr(given)[:60]} ..."
        return DataError(
            f"{wanted}, and {'nothing' if given is None else shown} is there.",
            file=self.path,
            line=self.line,
            field=field,
            fix="Name a file that sightline predict wrote; docs/evaluation.md lists its fields.",
        )
