"""COCO detection, YOLO folders and Pascal VOC as rows of a picture with its boxes.

    {"image": "images/a.jpg", "space": "pixels", "place": "images[0] (id 7)",
     "objects": [{"label": "cat", "box": [10, 20, 30, 40]}]}

Boxes are x1, y1, x2, y2: pixels of the file (COCO, VOC), or 0 to 1 of each side (YOLO, whose
centre and size become corners here). VOC counts pixels from 1; its boxes are taken as they stand,
as nearly all readers do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from sightline.data.rows.decoding import DECODER, broken, unescaped
from sightline.errors import DataError

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
# A label file of VOC that declares entities is an attack, not an annotation.
_MAX_XML_NUM_BYTES = 16 * 1024 * 1024


def coco_rows(path: Path) -> Iterator[dict[str, Any]]:
    """One row for each picture of a COCO file; crowds are left out, as their boxes are regions.

    Raises:
        DataError: The file is not COCO detection.
    """
    content = _coco_content(path)
    names = {
        item.get("id"): item.get("name")
        for item in _objects_of(content, "categories", path)
        if isinstance(item.get("id"), int | str)
    }
    boxes: dict[object, list[dict[str, Any]]] = {}
    for index, item in enumerate(_objects_of(content, "annotations", path)):
        if item.get("iscrowd") == 1:
            continue
        image = item.get("image_id")
        box = _corners_of_coco(item.get("bbox"))
        label = names.get(item.get("category_id")) if _is_key(item.get("category_id")) else None
        fault = None
        if box is None:
            fault = f"annotations[{index}].bbox: [x, y, width, height] expected."
        elif label is None:
            fault = f"annotations[{index}].category_id: no category has this id."
        owner = image if _is_key(image) else None
        boxes.setdefault(owner, []).append({"label": label, "box": box, "fault": fault})
    seen: set[object] = set()
    for index, item in enumerate(_objects_of(content, "images", path)):
        image = item.get("id")
        place = f"images[{index}] (id {image})"
        found = boxes.pop(image, []) if _is_key(image) else []
        fault = next((box["fault"] for box in found if box["fault"]), None)
        if not _is_key(image) or image in seen:
            fault = f"id: {image!r} is no id, or not the only picture's with it."
        seen.add(image if _is_key(image) else None)
        if not isinstance(item.get("file_name"), str):
            fault = "file_name: the picture has no file name."
        if fault:
            yield {"place": place, "fault": fault}
            continue
        objects = [{"label": str(box["label"]), "box": box["box"]} for box in found]
        yield {"image": item["file_name"], "space": "pixels", "place": place, "objects": objects}
    for image, found in boxes.items():
        yield {
            "place": f"annotations of image {image}",
            "fault": f"{len(found)} boxes belong to image {image}, which the file does not list.",
        }


def yolo_rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """One row for each picture of a YOLO folder: ``images`` beside ``labels``, and data.yaml.

    Raises:
        DataError: There is no picture, or no data.yaml with the names of the classes.
    """
    names = _yolo_names(folder)
    pictures = _yolo_pictures(folder, split)
    for picture in pictures:
        name = picture.relative_to(folder)
        parts = list(name.parts)
        parts[parts.index("images")] = "labels"
        labels = folder.joinpath(*parts).with_suffix(".txt")
        row: dict[str, Any] = {"file": str(labels), "image": str(name), "space": "unit"}
        try:
            lines = labels.read_text("utf-8").splitlines() if labels.is_file() else []
        except (OSError, UnicodeDecodeError) as error:
            yield {**row, "fault": f"the label file cannot be read: {error}."}
            continue
        objects, fault = [], None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found = _yolo_object(line, names)
            if isinstance(found, str):
                fault, row["line"] = found, number
                break
            objects.append(found)
        yield {**row, "fault": fault} if fault else {**row, "objects": objects}


def voc_rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """One row for each file of ``Annotations``; ``ImageSets/Main/SPLIT.txt`` chooses, if there.

    Raises:
        DataError: There is no annotation, or there are splits and not this one.
    """
    lists = folder / "ImageSets" / "Main"
    if any(lists.glob("*.txt")):
        stems = _voc_stems(lists / f"{split}.txt")
        files = [folder / "Annotations" / f"{stem}.xml" for stem in stems]
    else:
        files = sorted((folder / "Annotations").glob("*.xml"))
    if not files:
        what = "the folder has no Annotations/*.xml."
        raise DataError(what, file=folder, fix="Name the VOC folder.", code="source.empty")
    for file in files:
        try:
            yield {"file": str(file), "space": "pixels", **_voc_row(file)}
        except (OSError, ValueError, ElementTree.ParseError) as error:
            yield {"file": str(file), "fault": f"the annotation cannot be read: {error}."}


def _coco_content(path: Path) -> dict[str, Any]:
    try:
        text = unescaped(path.read_bytes())
        content = DECODER.decode(text.removeprefix("\udcef\udcbb\udcbf").removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise broken(error, path, error.lineno, "Mend the file there.") from error
    except RecursionError as error:
        raise DataError("nested too deep.", file=path, code="json.broken") from error
    except OSError as error:
        what = f"the data file cannot be read: {error.strerror}."
        raise DataError(what, file=path, code="source.missing") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        what = "a COCO file is an object with images, annotations and categories."
        raise DataError(what, file=path, fix="Name the instances file.", code="source.kind")
    return content


def _objects_of(content: dict[str, Any], name: str, path: Path) -> Iterator[dict[str, Any]]:
    items = content[name]
    if not isinstance(items, list):
        raise DataError("a list expected.", file=path, field=name, code="source.kind")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise DataError("an object expected.", file=path, field=f"{name}[{index}]")
        yield item


def _is_key(value: object) -> bool:
    return isinstance(value, int | str)


def _corners_of_coco(box: object) -> list[float] | None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(n) for n in box):
        return None
    x, y, width, height = box
    return [x, y, x + width, y + height]


def _is_finite(number: object) -> bool:
    return (
        isinstance(number, int | float)
        and not isinstance(number, bool)
        and math.isfinite(number)
        and abs(number) < 1e9
    )


def _yolo_names(folder: Path) -> dict[int, str]:
    file = next(
        (folder / name for name in ("data.yaml", "data.yml") if (folder / name).is_file()), None
    )
    if file is None:
        what = "there is no data.yaml with the names of the classes."
        raise DataError(
            what, file=folder, fix="Write names: [cat, dog] into it.", code="source.kind"
        )
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"it cannot be read: {error}.", file=file, code="source.kind") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        return {index: str(name) for index, name in enumerate(names)}
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        return {key: str(name) for key, name in names.items()}
    what = "names is a list of the classes, or a mapping from their numbers."
    raise DataError(
        what, file=file, field="names", fix="Write names: [cat, dog].", code="source.kind"
    )


def _yolo_pictures(folder: Path, split: str) -> list[Path]:
    for pictures in (folder / "images" / split, folder / split / "images", folder / "images"):
        found = sorted(file for file in pictures.glob("*") if file.suffix.lower() in _PICTURES)
        if found:
            return found
    what = f"there is no picture in images/{split}, {split}/images or images."
    raise DataError(
        what, file=folder, fix="Name the YOLO folder, and its split.", code="source.empty"
    )


def _yolo_object(line: str, names: dict[int, str]) -> dict[str, Any] | str:
    """An object of a label line, or what is wrong with the line."""
    fields = line.split()
    if len(fields) < 5:
        return f"class, x, y, width and height expected, found {len(fields)} fields."
    if len(fields) > 6:
        return f"{len(fields)} fields: a polygon, not a box of class, x, y, width and height."
    try:
        number, (x, y, width, height) = int(fields[0]), map(float, fields[1:5])
    except ValueError:
        return f"five numbers expected, found {line[:80]!r}."
    if number not in names:
        return f"class {number} has no name; data.yaml names {len(names)} classes."
    box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if not all(math.isfinite(n) and -0.01 <= n <= 1.01 for n in box):
        return f"the box {fields[1:5]} lies outside the picture; YOLO's numbers are 0 to 1."
    return {"label": names[number], "box": [min(max(n, 0.0), 1.0) for n in box]}


def _voc_stems(listed: Path) -> list[str]:
    try:
        text = listed.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        others = ", ".join(sorted(file.stem for file in listed.parent.glob("*.txt")))
        what = f"the list of the split cannot be read: {error}."
        fix = f"Set split; there are {others}."
        raise DataError(what, file=listed, fix=fix, code="source.missing") from error
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def _voc_row(file: Path) -> dict[str, Any]:
    raw = file.read_bytes()
    # UTF-16 writes the same letters with zeros between them.
    plain = raw.replace(b"\0", b"")
    if len(raw) > _MAX_XML_NUM_BYTES or b"<!ENTITY" in plain or b"<!DOCTYPE" in plain:
        raise ValueError("it is too large, or declares a document type")
    root = ElementTree.fromstring(raw)
    name = (root.findtext("filename") or "").strip() or f"{file.stem}.jpg"
    objects = []
    for item in root.iter("object"):
        box = item.find("bndbox")
        if box is None:
            raise ValueError("an object has no bndbox")
        sides = [float(box.findtext(side) or "nan") for side in ("xmin", "ymin", "xmax", "ymax")]
        if not all(_is_finite(side) for side in sides):
            raise ValueError("a bndbox has no four numbers")
        label = (item.findtext("name") or "").strip()
        if not label:
            raise ValueError("an object has no name")
        objects.append({"label": label, "box": sides})
    return {"image": str(Path("JPEGImages", name)), "objects": objects}
