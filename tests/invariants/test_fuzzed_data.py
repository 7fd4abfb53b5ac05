"""Two thousand damaged rows, and damaged files of every kind: each sample is accounted for."""

from __future__ import annotations

import copy
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.config import RunConfig
from sightline.errors import SightlineError
from sightline.model import open_checkpoint
from sightline.preparation import PreparedData, prepare_data

NUM_ROWS = 2000
NUM_FILES = 150
FATES = {"kept", "fitted", "dropped", "quarantined"}

SAID = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bird."}]
CHAT = [
    {"role": "user", "content": "<image>Where is it?"},
    {"role": "assistant", "content": "On a tree."},
]
ROWS: list[Any] = [
    {"image": "a.png", "conversations": SAID},
    {"image": ["a.png", "b.jpg"], "conversations": [SAID[0], SAID[1], *SAID]},
    [{"image": "a.png", "conversations": SAID}, {"image": "b.jpg", "conversations": SAID}],
    {"conversations": SAID, "images": ["b.jpg"], "system": "Be short."},
    {"messages": CHAT, "images": ["a.png"]},
    {"messages": [CHAT[0], {**CHAT[1], "loss": True}], "images": ["a.png"]},
    {
        "messages": [
            {"role": "user", "content": "<image>Find <ref-object>"},
            {"role": "assistant", "content": "<bbox>"},
        ],
        "images": ["a.png"],
        "objects": {"ref": ["bird"], "bbox": [[1, 2, 30, 40]], "bbox_type": "real"},
    },
    {"query": "<image>What?", "response": "A bird.", "images": ["a.png"]},
    {"instruction": "What?", "input": "<image>", "output": "A bird.", "images": ["a.png"]},
    {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "?"}],
            },
            {"role": "assistant", "content": "A bird."},
        ]
    },
]
STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**40,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " \n",
    "\x00",
    "\ud800",
    "\ue0000\ue001",
    "<image>",
    "<video><image>",
    "<bbox>",
    "<|im_end|>",
    "x" * 100_000,
    "../" * 30 + "etc/passwd",
    "http://localhost/a.png",
    "data:image/png;base64,AAAA",
    "file://a.png",
    [],
    {},
    [[]],
    [None],
    {"type": None},
    {"bytes": "AAAA", "path": None},
]


def damaged(value: Any, rng: random.Random) -> Any:
    """A copy with one or two places changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 2)):
        value = _changed(value, rng)
    return value


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        kind = rng.random()
        if kind < 0.7:
            value[key] = _changed(value[key], rng)
        elif kind < 0.8:
            del value[key]
        elif kind < 0.9 and isinstance(value, list):
            value.insert(key, copy.deepcopy(value[key]))
        elif isinstance(value, dict):
            value[rng.choice(["loss", "images", "objects", "tools", "role", "", key])] = value.pop(
                key
            )
        return value
    if isinstance(value, str) and rng.random() < 0.4:
        cut = rng.randrange(len(value) + 1)
        return (
            value[:cut] + rng.choice(["", "<image>", "\ud83d", "\u2028", "\n\n"]) + value[cut:][1:]
        )
    if rng.random() < 0.05:
        nested: Any = []
        for _ in range(rng.choice([3, 30, 150])):
            nested = [nested]
        return nested
    return copy.deepcopy(rng.choice(STRANGE))


def damaged_bytes(raw: bytes, rng: random.Random, most: int = 3) -> bytes:
    """Bytes cut, flipped, doubled or with others between them, in up to ``most`` places."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(raw) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            raw = raw[:at]
        elif kind == 1 and at < len(raw):
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            raw[at:at] = raw[max(0, at - 20) : at]
        elif kind == 3:
            raw[at:at] = rng.choice([b"\xff\xfe", b"\xc3", b"\x00", b'"', b"]", b"{", b"1" * 9000])
        else:
            raw[at:at] = rng.choice(string.printable).encode()
    return bytes(raw)


@pytest.fixture
def prepared(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Callable[..., PreparedData]:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 80)).save(tmp_path / "b.jpg")
    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")))

    def prepare(max_length: int = 90, **source: object) -> PreparedData:
        config = RunConfig.model_validate(
            {
                "model": "tiny:qwen2_5_vl",
                "output": str(tmp_path / "run"),
                "data": {"train": [source], "max_length": max_length, "processes": 1},
            }
        )
        return prepare_data(config, checkpoint)

    return prepare


def ledger_of(data: PreparedData, folder: Path) -> list[dict[str, Any]]:
    counts = data.train.write_ledger(folder / "ledger.jsonl", folder / "quarantine.jsonl")
    lines = (folder / "ledger.jsonl").read_text("utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    bad = (folder / "quarantine.jsonl").read_text("utf-8").split("\n")[:-1]
    assert counts.input == len(rows) == sum(counts.fates.values())
    assert counts.conversations == sum(len(row["tokens"]) for row in rows)
    assert len(bad) == counts.fates.get("quarantined", 0)
    for row in rows:
        assert row["fate"] in FATES
        assert (row["fate"] in ("kept", "fitted")) == bool(row["tokens"])
        assert row["fate"] == "kept" or row["reason"]
        assert all(tokens <= data.max_length for tokens in row["tokens"])
        assert row["file"]
    for line in bad:
        row = json.loads(line)
        assert row["code"]
        assert row["reason"]
    return rows


def test_two_thousand_damaged_rows(prepared, tmp_path: Path) -> None:
    rng = random.Random(7)
    lines: list[bytes] = []
    for number in range(NUM_ROWS):
        row = ROWS[number % len(ROWS)]
        text = json.dumps(row if number % 7 == 0 else damaged(row, rng)).encode()
        if number % 97 == 0:
            # Deeper than Python's own writer goes.
            text = b'{"conversations": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
        if number % 3 == 1:
            text = damaged_bytes(text, rng, most=1)
        # A line stays one line, and none is blank: what is counted is counted from here.
        lines.append(text.replace(b"\n", b" ").replace(b"\r", b" ").strip() or b"-")
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    data = prepared(max_length=46, path=str(tmp_path / "rows.jsonl"))
    rows = ledger_of(data, tmp_path)
    assert {row["line"] for row in rows} == set(range(1, NUM_ROWS + 1))
    fates = [row["fate"] for row in rows]
    # The test says little if all of them are refused, or none.
    assert min(fates.count("kept"), fates.count("fitted"), fates.count("quarantined")) > 20
    # What is kept can be trained on.
    for sample in data.train.samples[:: max(1, len(data.train.samples) // 100)]:
        assert sample.num_supervised_tokens > 0


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "coco.json"])
def test_damaged_files(prepared, tmp_path: Path, name: str) -> None:
    rng = random.Random(11)
    path = tmp_path / name
    whole = _coco() if name == "coco.json" else json.dumps(ROWS, indent=1)
    if name == "rows.jsonl":
        whole = "".join(json.dumps(row) + "\n" for row in ROWS)
    num_read = 0
    for _ in range(NUM_FILES):
        path.write_bytes(damaged_bytes(whole.encode(), rng, most=1))
        num_read += _read_or_refused(prepared, tmp_path, path=str(path))
    assert num_read > NUM_FILES // 10


def test_damaged_folders(prepared, tmp_path: Path) -> None:
    rng = random.Random(13)
    yolo, voc = _yolo(tmp_path), _voc(tmp_path)
    files = [file for folder in (yolo, voc) for file in folder.rglob("*") if file.is_file()]
    contents = {file: file.read_bytes() for file in files}
    num_read = 0
    for number in range(NUM_FILES // 2):
        changed = rng.choice(files)
        changed.write_bytes(damaged_bytes(contents[changed], rng, most=1))
        num_read += _read_or_refused(prepared, tmp_path, path=str(yolo if number % 2 else voc))
        changed.write_bytes(contents[changed])
    assert num_read > NUM_FILES // 10


def test_damaged_tables(prepared, tmp_path: Path) -> None:
    from datasets import Dataset

    rng = random.Random(17)
    good = [row for row in ROWS if isinstance(row, dict) and "images" in row and "messages" in row]
    path = tmp_path / "rows.parquet"
    Dataset.from_list([{"messages": row["messages"], "images": row["images"]} for row in good]
                      ).to_parquet(str(path))  # fmt: skip
    whole = path.read_bytes()
    num_read = 0
    for number in range(12):
        path.write_bytes(whole if number == 0 else damaged_bytes(whole, rng))
        num_read += _read_or_refused(prepared, tmp_path, path=str(path))
    assert num_read >= 1


def test_damaged_pictures(prepared, tmp_path: Path) -> None:
    rng = random.Random(19)
    rows = []
    for number in range(200):
        source = tmp_path / ("a.png" if number % 2 else "b.jpg")
        path = tmp_path / f"{number}{source.suffix}"
        path.write_bytes(damaged_bytes(source.read_bytes(), rng))
        rows.append({"image": path.name, "conversations": SAID})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = ledger_of(prepared(path=str(path)), tmp_path)
    fates = [row["fate"] for row in told]
    assert fates.count("kept") > 5
    assert fates.count("quarantined") > 5


def _read_or_refused(prepared, folder: Path, **source: object) -> int:
    """1 where the source was read, with every sample accounted for; 0 where it was refused."""
    data, message = None, ""
    try:
        data = prepared(max_length=400, **source)
    except SightlineError as error:
        message = str(error)
    if data is None:
        assert message.strip()
        return 0
    ledger_of(data, folder)
    return 1


def _coco() -> str:
    return json.dumps(
        {
            "images": [
                {"id": 1, "file_name": "a.png", "width": 64, "height": 48},
                {"id": 2, "file_name": "b.jpg", "width": 40, "height": 80},
            ],
            "categories": [{"id": 1, "name": "bird"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0},
                {"id": 2, "image_id": 2, "category_id": 1, "bbox": [5, 6, 7, 8], "iscrowd": 0},
            ],
        }
    )


def _yolo(folder: Path) -> Path:
    root = folder / "yolo"
    for name in ("images/train", "labels/train"):
        (root / name).mkdir(parents=True)
    (root / "data.yaml").write_text("names: [bird, tree]\n")
    for number in range(4):
        Image.new("RGB", (60, 40)).save(root / f"images/train/{number}.png")
        (root / f"labels/train/{number}.txt").write_text("0 0.5 0.5 0.2 0.4\n1 0.2 0.2 0.1 0.1\n")
    return root


def _voc(folder: Path) -> Path:
    root = folder / "voc"
    for name in ("Annotations", "JPEGImages"):
        (root / name).mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (60, 40)).save(root / f"JPEGImages/{number}.jpg")
        (root / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><object><name>bird</name><bndbox>"
            "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>"
            "</annotation>"
        )
    return root
