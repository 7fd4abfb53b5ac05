"""Sources of a run: a file, a folder or a hub data set, and how its rows are read."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import field_validator, model_validator

from sightline.config.base import ContradictionError, Section, key

SourceFormat = Literal["official", "sharegpt", "alpaca", "openai", "swift", "coco", "yolo", "voc"]

TextBoxes = Literal["pixels", "unit", "thousandths", "resized", "longest"]
BoxLayout = Literal["xyxy", "yxyx", "xywh"]


class Columns(Section):
    """Column names of ShareGPT and Alpaca rows, as LLaMA-Factory declares them."""

    messages: str | None = key("conversations", "Column of the turns (ShareGPT).")
    images: str | None = key(None, "Column of image paths.")
    videos: str | None = key(None, "Column of video paths.")
    system: str | None = key(None, "Column of a system prompt.")
    prompt: str | None = key(None, "Column of the question (Alpaca).")
    query: str | None = key(None, "Column that is added below the question (Alpaca).")
    response: str | None = key(None, "Column of the answer (Alpaca).")
    history: str | None = key(None, "Column of earlier [question, answer] pairs (Alpaca).")


class Tags(Section):
    """Names inside the turns of ShareGPT rows, as LLaMA-Factory declares them."""

    role_tag: str | None = key("from", "Key of the speaker.")
    content_tag: str | None = key("value", "Key of the text.")
    user_tag: str | None = key("human", "Name of the user.")
    assistant_tag: str | None = key("gpt", "Name of the assistant.")
    system_tag: str | None = key("system", "Name of the system.")


class Template(Section):
    """The words of a conversation that is made of a picture and its boxes (coco, yolo, voc)."""

    question: str = key(
        "<image>Locate every object and report bbox_2d coordinates and label in JSON format.",
        "The user's turn. {labels} is the labels of the picture, joined by a comma.",
        min_length=1,
    )
    object: str = key(
        '{"bbox_2d": {box}, "label": "{label}"}',
        "One object. {box} is the box in the space of the model's family, as a list; {box_tokens} "
        "is the same between the box tokens.",
        min_length=1,
    )
    separator: str = key(", ", "Stands between two objects.")
    answer: str = key("[{objects}]", "The answer around the objects.", min_length=1)
    empty: str | None = key(
        None, "The answer where a picture has no object; null is the answer with none in it."
    )
    system: str | None = key(None, "A system prompt; null for the chat template's own.")

    @model_validator(mode="after")
    def _says_something(self) -> Template:
        for name, text, marks in (
            ("question", self.question, ("<image>",)),
            ("object", self.object, ("{box}", "{box_tokens}")),
            ("answer", self.answer, ("{objects}",)),
        ):
            num_marks = sum(text.count(mark) for mark in marks)
            if num_marks != 1:
                raise ContradictionError(
                    name,
                    f"{' and '.join(marks)} stand{'s' * (len(marks) == 1)} in it {num_marks} times",
                    "Write it once.",
                )
        return self


class Source(Section):
    """One source of samples."""

    path: str | None = key(
        None,
        "A .json, .jsonl, .parquet, .arrow or .csv file, a folder of them, a folder that datasets "
        "saved, a COCO .json, a YOLO or Pascal VOC folder, or a dataset_info.json with name.",
        min_length=1,
    )
    hub: str | None = key(
        None, "A data set of the Hugging Face hub, instead of path.", min_length=1
    )
    name: str | None = key(None, "Entry of a LLaMA-Factory dataset_info.json.")
    subset: str | None = key(None, "Configuration of a hub data set.")
    split: str = key("train", "Split of a hub data set, or of a YOLO or VOC folder.", min_length=1)
    revision: str | None = key(None, "Commit or tag of a hub data set; null is the newest.")
    streaming: bool = key(
        False, "Fetch only as many rows of a hub data set as num_samples asks for."
    )
    num_samples: int | None = key(
        None,
        "Take so many of its samples, chosen by the seed; beyond what there is, some again. "
        "null is all.",
        unit="samples",
        gt=0,
    )
    weight: float = key(
        1.0, "How often an epoch sees each sample: 0.5 takes half of them, 2 each one twice.", gt=0
    )
    format: SourceFormat | None = key(
        None, "Shape of the rows; null or auto tells them apart by themselves."
    )
    media_root: str | None = key(
        None, "Folder that media paths are relative to; null is the folder of the data file."
    )
    strip_prefix: str | None = key(
        None, "Leading folders that media paths carry in the file but not on this disk."
    )
    allow_outside: bool = key(
        False,
        "Read media files outside of media_root too: absolute paths, and paths with .. that leave "
        "it. Links inside of it are always followed.",
    )
    url_hosts: list[str] = key(
        [],
        "Hosts whose media are fetched where samples name http or https addresses, once, into the "
        'index folder: exact names, or "*" for every host.',
    )
    columns: Columns | None = key(
        None, "Column names of ShareGPT or Alpaca rows; null for the usual ones."
    )
    tags: Tags | None = key(None, "Names inside ShareGPT turns; null for the usual ones.")
    text_boxes: TextBoxes | None = key(
        None,
        "What the numbers of boxes in the text mean (bbox_2d, point_2d, box tokens): pixels of the "
        "file, unit (0 to 1), thousandths, resized: pixels at the run's own size, or longest: "
        "thousandths of the longer side on both axes. They are then written as the family writes "
        "them, and follow what is shrunk. null leaves them as text.",
    )
    box_layout: BoxLayout = key(
        "xyxy",
        "What the four numbers of a box are, in the text and in objects: x1, y1, x2, y2; yxyx is "
        "y first; xywh is a corner, width and height. coco, yolo and voc have their own.",
    )
    box_orientation: Literal["shown", "stored"] = key(
        "shown",
        "Whether boxes are on the picture as it is shown, or on its pixels as they are stored, "
        "before the EXIF orientation turns it.",
    )
    template: Template = key(Template(), "Words around the boxes of coco, yolo and voc.")

    @property
    def title(self) -> str:
        """The source as messages and reports name it."""
        return self.path or self.hub or ""

    @field_validator("path", "media_root", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        return os.fspath(given) if isinstance(given, os.PathLike) else given

    @field_validator("format", mode="before")
    @classmethod
    def _auto_is_null(cls, given: Any) -> Any:
        return None if given == "auto" else given

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.hub is None):
            raise ValueError("name one of path and hub")
        if self.streaming and self.hub is None:
            raise ContradictionError(
                "streaming", "streaming is for a hub data set, and hub is not given", "Remove it."
            )
        if self.streaming and self.num_samples is None:
            raise ContradictionError(
                "streaming",
                "streaming is true and num_samples is null",
                "Say with num_samples how many rows to fetch; without streaming all are fetched.",
            )
        return self
