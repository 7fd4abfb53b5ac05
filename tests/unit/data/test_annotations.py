"""COCO, YOLO and Pascal VOC: a conversation for each picture, found again by its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from sightline.config import Source, Template
from sightline.data.conversation import BoxPart, Conversation, ImagePart, TextPart
from sightline.data.sources import Parsed, open_source, read_source
from sightline.errors import DataError

WORDS = Template(question="<image>?", object="{label} {box}", separator=", ", answer="{objects}.")
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(path)
    return path


def source(path: Path, **more: object) -> Source:
    return Source(path=path, template=WORDS, **more)


def parsed_all(given: Source, kept: Path) -> list[Parsed]:
    """All samples; each that can be used is read once more by its place."""
    [reader] = open_source(given, folder=kept)
    found: list[Parsed] = []
    for chunk in reader.rows.chunks():
        for raw in reader.rows.read(chunk):
            for parsed in reader.parse(raw):
                if parsed.conversation is not None:
                    again = reader.conversation(parsed.origin, raw.offset, raw.num_bytes)
                    assert again == parsed.conversation
                found.append(parsed)
    return found


def shown(conversation: Conversation | None) -> str:
    """The answer in a line: text, and boxes as their numbers."""
    assert conversation is not None
    return "".join(
        part.text
        if isinstance(part, TextPart)
        else f"{part.space} " + " ".join(f"{number:g}" for number in part.numbers)
        for part in conversation.messages[-1].parts
        if isinstance(part, TextPart | BoxPart)
    )


def told(parsed: list[Parsed]) -> list[str]:
    return [shown(p.conversation) if p.fault is None else str(p.fault) for p in parsed]


def only_image(parsed: Parsed) -> Path:
    assert parsed.conversation is not None
    [image] = parsed.conversation.images()
    assert isinstance(image, ImagePart)
    return image.path


def refusal(given: Source, kept: Path) -> str:
    with pytest.raises(DataError) as caught:
        parsed_all(given, kept)
    return str(caught.value)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def coco(path: Path, images: object, annotations: object, categories: object = None) -> Path:
    content = {
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES if categories is None else categories,
    }
    path.write_text(json.dumps(content, indent=1))
    return path


def boxed(image: object, category: object = 1, **more: object) -> dict:
    return {"image_id": image, "category_id": category, "bbox": [1, 2, 3.5, 4], **more}


def test_coco(tmp_path: Path, kept: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg", "c.jpg"):
        picture(tmp_path / name)
    path = coco(
        tmp_path / "instances.json",
        [
            {"id": 5, "file_name": "a.jpg"},
            {"id": "x", "file_name": "sub/b.jpg"},
            {"id": 6, "file_name": "c.jpg"},
        ],
        [
            boxed("x", 7),
            boxed(5),
            boxed(5, 7, bbox=[0, 0, 20, 10]),
            boxed(5, iscrowd=1, bbox=[9, 9, 1, 1]),
            boxed(6, iscrowd=1, segmentation={"counts": [], "size": [10, 20]}),
        ],
    )
    found = parsed_all(source(path), kept)
    assert told(found) == [
        "cat pixels 1 2 4.5 6, dog pixels 0 0 20 10.",
        "dog pixels 1 2 4.5 6.",
        ".",
    ]
    assert [str(parsed.origin) for parsed in found] == [
        f"{path} images[0] (id 5)",
        f"{path} images[1] (id x)",
        f"{path} images[2] (id 6)",
    ]
    assert [only_image(parsed) for parsed in found] == [
        tmp_path / "a.jpg",
        tmp_path / "sub/b.jpg",
        tmp_path / "c.jpg",
    ]


def test_coco_pictures_in_another_folder(tmp_path: Path, kept: Path) -> None:
    image = picture(tmp_path / "val2017/a.jpg")
    path = coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], [boxed(1)])
    [found] = parsed_all(source(path, media_root=tmp_path / "val2017"), kept)
    assert only_image(found) == image


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([boxed(1, 3)], "images[0] (id 1): annotations[0].category_id: no category has this id."),
        (
            [boxed(1, None)],
            "images[0] (id 1): annotations[0].category_id: no category has this id.",
        ),
        (
            [boxed(1), boxed(1, bbox=[1, 2, 3])],
            "images[0] (id 1): annotations[1].bbox: [x, y, width, height] expected.",
        ),
        (
            [boxed(1, bbox=[1, 2, 3, None])],
            "images[0] (id 1): annotations[0].bbox: [x, y, width, height] expected.",
        ),
        (
            [boxed(1, bbox=[1, 2, 3, float("inf")])],
            "images[0] (id 1): annotations[0].bbox: [x, y, width, height] expected.",
        ),
    ],
)
def test_faults_of_coco_annotations(
    tmp_path: Path, kept: Path, annotations: list, message: str
) -> None:
    picture(tmp_path / "a.jpg")
    path = coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], annotations)
    assert told(parsed_all(source(path), kept)) == [f"{path}: {message}"]


def test_coco_pictures_that_cannot_be_told_apart(tmp_path: Path, kept: Path) -> None:
    picture(tmp_path / "a.jpg")
    images = [
        {"id": 1, "file_name": "a.jpg"},
        {"id": 1, "file_name": "a.jpg"},
        {"file_name": "a.jpg"},
        {"id": 2},
    ]
    path = coco(tmp_path / "a.json", images, [boxed(1), boxed(9), boxed(9), boxed(None)])
    assert told(parsed_all(source(path), kept)) == [
        "cat pixels 1 2 4.5 6.",
        f"{path}: images[1] (id 1): id: 1 is no id, or not the only picture's with it.",
        f"{path}: images[2] (id None): id: None is no id, or not the only picture's with it.",
        f"{path}: images[3] (id 2): file_name: the picture has no file name.",
        f"{path}: annotations of image 9: 2 boxes belong to image 9, which the file does not list.",
        f"{path}: annotations of image None: 1 boxes belong to image None, which the file does not "
        "list.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"images": [],\n "annotations": [}',
            ":2: broken JSON in column 18: expecting value, near '\"annotations\": [}'.\n"
            "Mend the file there.",
        ),
        (
            '{"images": [], "annotations": []}',
            ": a COCO file is an object with images, annotations and categories.\n"
            "Name the instances file.",
        ),
        ('{"images": {}, "annotations": [], "categories": []}', ": images: a list expected."),
        (
            '{"images": [], "annotations": [3], "categories": []}',
            ": annotations[0]: an object expected.",
        ),
        (
            '{"images": [], "annotations": [], "categories": []}',
            ": the source holds no sample.\nCheck its path, its subset and its split.",
        ),
        ('{"images": ' + "[" * 100_000, ": nested too deep."),
    ],
)
def test_faults_of_a_coco_file(tmp_path: Path, kept: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert refusal(source(path), kept) == f"{path}{message}"
    assert list(kept.glob("*")) == [], "nothing half done is kept"


def test_a_coco_file_that_changes_is_read_anew(tmp_path: Path, kept: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], [boxed(1)])
    assert told(parsed_all(source(path), kept)) == ["cat pixels 1 2 4.5 6."]
    coco(path, [{"id": 1, "file_name": "a.jpg"}], [boxed(1, 7), boxed(1)])
    assert told(parsed_all(source(path), kept)) == ["dog pixels 1 2 4.5 6, cat pixels 1 2 4.5 6."]
    assert len(list(kept.glob("spool-*"))) == 1


def test_files_of_one_size_and_time_are_not_taken_for_each_other(
    tmp_path: Path, kept: Path
) -> None:
    picture(tmp_path / "a.jpg")
    paths = []
    for name, category in (("one.json", 1), ("two.json", 7)):
        images = [{"id": 1, "file_name": "a.jpg"}]
        paths.append(coco(tmp_path / name, images, [boxed(1, category)]))
        os.utime(paths[-1], ns=(10**18, 10**18))
    assert paths[0].stat().st_size == paths[1].stat().st_size
    readers = [read_source(source(path), folder=kept) for path in paths]
    assert [shown(next(reader)) for reader in readers] == [
        "cat pixels 1 2 4.5 6.",
        "dog pixels 1 2 4.5 6.",
    ]


def test_rows_that_were_kept_and_are_gone_are_made_anew(tmp_path: Path, kept: Path) -> None:
    picture(tmp_path / "a.jpg")
    path = coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.jpg"}], [boxed(1)])
    [reader] = open_source(source(path), folder=kept)
    [chunk] = reader.rows.chunks()
    [raw] = reader.rows.read(chunk)
    for file in kept.glob("*"):
        file.unlink()
    assert reader.rows.row(raw.origin, raw.offset, raw.num_bytes) == raw


def yolo(folder: Path, layout: str, names: str, **labels: str | None) -> Path:
    """A YOLO folder: ``layout`` says where pictures lie; a label of None is no file."""
    for stem, label in labels.items():
        picture(folder / layout / f"{stem}.jpg")
        file = folder / layout.replace("images", "labels") / f"{stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        if label is not None:
            file.write_text(label)
    (folder / "data.yaml").write_text(names)
    return folder


@pytest.mark.parametrize("layout", ["images/train", "train/images", "images"])
@pytest.mark.parametrize("names", ["names: [cat, dog]", "nc: 2\nnames:\n  0: cat\n  1: dog\n"])
def test_yolo(tmp_path: Path, kept: Path, layout: str, names: str) -> None:
    folder = yolo(
        tmp_path / "y",
        layout,
        names,
        a="1 0.5 0.5 0.5 0.25\n\n0 0.25 0.75 0.5 0.5 0.9\n",
        b="",
        c=None,
        d="0 0.5 0.5 1.01 1",
    )
    found = parsed_all(source(folder), kept)
    assert told(found) == [
        "dog unit 0.25 0.375 0.75 0.625, cat unit 0 0.5 0.5 1.",
        ".",
        ".",
        "cat unit 0 0 1 1.",
    ]
    assert [only_image(parsed) for parsed in found] == [
        folder / layout / f"{stem}.jpg" for stem in "abcd"
    ]


def test_splits_of_yolo_are_kept_apart(tmp_path: Path, kept: Path) -> None:
    folder = yolo(tmp_path / "y", "images/train", "names: [cat]", a="0 0.5 0.5 1 1")
    yolo(folder, "images/val", "names: [cat]", b="", c="")
    assert len(parsed_all(source(folder), kept)) == 1
    assert len(parsed_all(source(folder, split="val"), kept)) == 2
    assert len(parsed_all(source(folder), kept)) == 1
    assert refusal(source(folder, split="test"), kept) == (
        f"{folder}: there is no picture in images/test, test/images or images.\n"
        "Name the YOLO folder, and its split."
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.5", "class, x, y, width and height expected, found 4 fields."),
        ("0 .1 .2 .3 .4 .5 .6", "7 fields: a polygon, not a box of class, x, y, width and height."),
        ("cat 0.5 0.5 0.5 0.5", "five numbers expected, found 'cat 0.5 0.5 0.5 0.5'."),
        ("2 0.5 0.5 0.5 0.5", "class 2 has no name; data.yaml names 2 classes."),
        (
            "0 50 50 10 10",
            "the box ['50', '50', '10', '10'] lies outside the picture; YOLO's numbers are 0 to 1.",
        ),
        (
            "0 nan 0.5 0.5 0.5",
            "the box ['nan', '0.5', '0.5', '0.5'] lies outside the picture; YOLO's numbers are 0 "
            "to 1.",
        ),
    ],
)
def test_bad_label_lines(tmp_path: Path, kept: Path, line: str, message: str) -> None:
    label = f"0 0.5 0.5 0.5 0.5\n\n{line}\n"
    folder = yolo(tmp_path / "y", "images/train", "names: [cat, dog]", a=label, b="0 .5 .5 1 1")
    assert told(parsed_all(source(folder), kept)) == [
        f"{folder}/labels/train/a.txt:3: {message}",
        "cat unit 0 0 1 1.",
    ]


def test_a_label_file_that_is_no_text(tmp_path: Path, kept: Path) -> None:
    folder = yolo(tmp_path / "y", "images/train", "names: [cat]", a="")
    (folder / "labels/train/a.txt").write_bytes(b"\xff\xfe0")
    [message] = told(parsed_all(source(folder), kept))
    assert message.startswith(
        f"{folder}/labels/train/a.txt:1: the label file cannot be read: 'utf-8'"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("nc: 2", "names: names is a list of the classes, or a mapping from their numbers."),
        ("names: cat", "names: names is a list of the classes, or a mapping from their numbers."),
        ("names: [cat", "it cannot be read: while parsing a flow sequence"),
    ],
)
def test_names_of_the_classes(tmp_path: Path, kept: Path, names: str, message: str) -> None:
    folder = yolo(tmp_path / "y", "images/train", names, a="")
    assert refusal(source(folder), kept).startswith(f"{folder}/data.yaml: {message}")


def test_yolo_without_data_yaml(tmp_path: Path, kept: Path) -> None:
    folder = yolo(tmp_path / "y", "images/train", "", a="")
    (folder / "data.yaml").unlink()
    assert refusal(source(folder, format="yolo"), kept) == (
        f"{folder}: there is no data.yaml with the names of the classes.\n"
        "Write names: [cat, dog] into it."
    )


OBJECT = (
    "<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax>"
    "<ymax>4</ymax></bndbox><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part></object>"
)


def voc(folder: Path, **annotations: str | bytes) -> Path:
    """A VOC folder, from what stands inside each annotation."""
    for stem, inside in annotations.items():
        picture(folder / "JPEGImages" / f"{stem}.jpg")
        file = folder / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = (
            inside if isinstance(inside, bytes) else f"<annotation>{inside}</annotation>".encode()
        )
        file.write_bytes(whole)
    return folder


def test_voc(tmp_path: Path, kept: Path) -> None:
    folder = voc(
        tmp_path / "v",
        a=OBJECT.format(name="cat") + OBJECT.format(name=" dog "),
        b="<filename>a.jpg</filename>",
    )
    found = parsed_all(source(folder), kept)
    assert told(found) == ["cat pixels 1 2 3.5 4, dog pixels 1 2 3.5 4.", "."]
    assert [only_image(parsed).name for parsed in found] == ["a.jpg", "a.jpg"]
    assert str(found[0].origin) == f"{folder}/Annotations/a.xml:1"


def test_a_split_of_voc(tmp_path: Path, kept: Path) -> None:
    folder = voc(tmp_path / "v", a="", b=OBJECT.format(name="cat"), c="")
    lists = folder / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\n\nc  1\n")
    (lists / "val.txt").write_text("a\nmissing\n")
    found = parsed_all(source(folder), kept)
    assert [parsed.origin.file.name for parsed in found] == ["b.xml", "c.xml"]
    of_val = parsed_all(source(folder, split="val"), kept)
    assert told(of_val)[0] == "."
    assert told(of_val)[1].startswith(
        f"{folder}/Annotations/missing.xml:1: the annotation cannot be read: [Errno 2]"
    )
    assert refusal(source(folder, split="test"), kept) == (
        f"{lists}/test.txt: the list of the split cannot be read: [Errno 2] No such file or "
        f"directory: '{lists}/test.txt'.\nSet split; there are train, val."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<annotation><object>", "no element found: line 1, column 20."),
        (b"", "no element found: line 1, column 0."),
        (b"<annotation><object/></annotation>", "an object has no bndbox."),
        (
            OBJECT.format(name=" ").join(("<annotation>", "</annotation>")).encode(),
            "an object has no name.",
        ),
        (
            b"<annotation><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
            "a bndbox has no four numbers.",
        ),
        (
            OBJECT.format(name="a").replace("3.5", "x").join(("<a>", "</a>")).encode(),
            "could not convert string to float: 'x'.",
        ),
        (
            b'<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
            "it is too large, or declares a document type.",
        ),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'.encode("utf-16"),
            "it is too large, or declares a document type.",
        ),
    ],
)
def test_broken_annotations_of_voc(
    tmp_path: Path, kept: Path, content: bytes, message: str
) -> None:
    folder = voc(tmp_path / "v", a=content, b="")
    assert told(parsed_all(source(folder), kept)) == [
        f"{folder}/Annotations/a.xml:1: the annotation cannot be read: {message}",
        ".",
    ]


def test_voc_without_annotations(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "v/Annotations").mkdir(parents=True)
    assert refusal(source(tmp_path / "v"), kept) == (
        f"{tmp_path}/v: the folder has no Annotations/*.xml.\nName the VOC folder."
    )


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_a_folder_that_is_named_from_the_working_folder(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "yolo":
        image = yolo(tmp_path / "d", "images", "names: [cat]", a="") / "images/a.jpg"
    else:
        image = voc(tmp_path / "d", a="") / "JPEGImages/a.jpg"
    monkeypatch.chdir(tmp_path)
    [found] = parsed_all(source(Path("d")), kept)
    assert only_image(found) == image


def test_a_missing_picture(tmp_path: Path, kept: Path) -> None:
    folder = voc(tmp_path / "v", a="<filename>none.jpg</filename>")
    [message] = told(parsed_all(source(folder), kept))
    assert message.startswith(
        f"{folder}/Annotations/a.xml:1: image: {folder}/JPEGImages/none.jpg does not exist."
    )
