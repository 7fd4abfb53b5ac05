"""Samples with their annotated and predicted answers, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from sightline.checks.context import VerifyContext
from sightline.checks.plain import annotation, question
from sightline.data import MediaLimits, limited
from sightline.evaluation import ProbeSample, boxes_in_file
from sightline.geometry import BoxFrame, resize_image


def predictions_record(
    context: VerifyContext, given: list[str], flat: list[str] | None
) -> dict[str, Any]:
    """The content of ``predictions.json``.

    Args:
        context: The run under verification.
        given: Answers of the exported model.
        flat: Answers of the same model with 1-D positions, or None where that was not asked for.
    """
    control = None
    if flat is not None:
        rows = _rows(context, flat)
        control = {
            "title": "The same weights, served with 1-D positions",
            "num_equal": sum(row["equal"] for row in rows),
            "num_samples": len(rows),
            "samples": rows,
        }
    return {"samples": _rows(context, given), "control": control}


def _rows(context: VerifyContext, given: list[str]) -> list[dict[str, Any]]:
    return [
        _row(context, sample, answer)
        for sample, answer in zip(context.probe.samples, given, strict=True)
    ]


def _row(context: VerifyContext, sample: ProbeSample, answer: str) -> dict[str, Any]:
    wanted = annotation(sample.messages)
    media = [
        {"kind": kind, "path": path, "frame_seconds": None}
        for part in _media(sample)
        for kind, path in _files(part)
    ]
    frame = _box_frame(context, sample)
    return {
        "index": sample.index,
        "file": sample.file,
        "line": sample.line,
        "question": question(sample.messages),
        "annotation": wanted,
        "answer": answer,
        "equal": answer == wanted,
        "media": media,
        "annotated_boxes": boxes_in_file(wanted, frame) if frame else [],
        "predicted_boxes": boxes_in_file(answer, frame) if frame else [],
    }


def _files(part: dict[str, Any]) -> list[tuple[str, str]]:
    """The files of a part with what they are: the frames of a list are pictures."""
    given = part[part["type"]]
    return (
        [("image", path) for path in given] if isinstance(given, list) else [(part["type"], given)]
    )


def _media(sample: ProbeSample) -> list[dict[str, Any]]:
    return [
        part
        for turn in sample.messages
        for part in turn["content"]
        if part["type"] in ("image", "video")
    ]


def _box_frame(context: VerifyContext, sample: ProbeSample) -> BoxFrame | None:
    """Boxes are drawn where they are unambiguous: on a sample's only picture."""
    media = _media(sample)
    if len(media) != 1 or media[0]["type"] != "image":
        return None
    with Image.open(Path(media[0]["image"])) as picture:
        width, height = ImageOps.exif_transpose(picture).size
    limits = MediaLimits(image_max_pixels=media[0].get("max_pixels"))
    pre = limited(context.checkpoint.preprocessing, limits)
    resized = resize_image(height, width, pre.image_patching, pre.image_budget)
    return BoxFrame(
        space=context.checkpoint.family.box_space,
        file_height=height,
        file_width=width,
        resized_height=resized[0],
        resized_width=resized[1],
    )
