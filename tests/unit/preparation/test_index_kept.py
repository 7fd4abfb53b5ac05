"""The index between runs: what is read again, what is not, and what an interruption leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sightline.config import RunConfig
from sightline.data.index import build_index, entries_of
from sightline.data.rows import jsonl
from sightline.data.sources import SourceReader, open_source
from sightline.errors import DataError
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import PreparedData, make_encoder, prepare_data


@pytest.fixture
def checkpoint(tiny_folder: Callable[[str], Path]) -> Checkpoint:
    return open_checkpoint(str(tiny_folder("qwen2_5_vl")))


def row(number: int, image: str = "a.png") -> str:
    said = [{"from": "human", "value": f"<image>{number}?"}, {"from": "gpt", "value": "Yes."}]
    return json.dumps({"image": image, "conversations": said}) + "\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty rows in chunks of about four."""
    monkeypatch.setattr(jsonl, "CHUNK_NUM_BYTES", len(row(0)) * 4)
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(row, range(40))))
    return path


def indexed(path: Path, checkpoint: Checkpoint, num_processes: int = 1):
    from sightline.config import Source

    [reader] = open_source(Source(path=str(path)), folder=path.parent / "kept")
    folder = path.parent / "index"
    return build_index(reader, make_encoder(checkpoint), folder, num_processes=num_processes)


def lines(index) -> list[int]:
    tables = list(index.tables())
    return [e.line for table in tables for batch in table.to_batches() for e in entries_of(batch)]


def test_an_unchanged_source_is_not_read_again(path: Path, checkpoint, monkeypatch) -> None:
    first = indexed(path, checkpoint)
    assert (first.num_rows, first.num_read) == (40, 40)
    assert lines(first) == list(range(1, 41))

    def refuse(*_: object) -> None:
        raise AssertionError("the source was read again")

    monkeypatch.setattr(jsonl.JsonLines, "chunks", refuse)
    monkeypatch.setattr(jsonl.JsonLines, "read", refuse)
    again = indexed(path, checkpoint)
    assert (again.num_rows, again.num_read) == (40, 0)


def test_rows_at_the_end_are_read_and_no_others(path: Path, checkpoint) -> None:
    before = indexed(path, checkpoint)
    with path.open("a") as file:
        file.writelines(map(row, range(40, 46)))
    after = indexed(path, checkpoint)
    assert after.num_rows == 46
    assert lines(after) == list(range(1, 47))
    # The last chunk may have grown; every other one is kept.
    assert 6 <= after.num_read <= 11
    assert set(before.names[:-1]) < set(after.names)


def test_a_changed_row_is_noticed(path: Path, checkpoint) -> None:
    indexed(path, checkpoint)
    rows = path.read_text().splitlines(keepends=True)
    rows[20] = row(20).replace("Yes.", "Not at all.")
    path.write_text("".join(rows))
    again = indexed(path, checkpoint)
    assert again.num_rows == 40
    assert 0 < again.num_read < 40


def test_an_interrupted_pass_goes_on(path: Path, checkpoint, monkeypatch) -> None:
    real = SourceReader.parse
    seen: list[int] = []

    def parse(self, raw, found=None):
        seen.append(raw.origin.line)
        if raw.origin.line == 25:
            raise KeyboardInterrupt
        return real(self, raw, found)

    monkeypatch.setattr(SourceReader, "parse", parse)
    with pytest.raises(KeyboardInterrupt):
        indexed(path, checkpoint)
    done = list((path.parent / "index").glob("*.arrow"))
    assert done
    assert not (path.parent / "index/index.json").exists()
    monkeypatch.setattr(SourceReader, "parse", real)
    index = indexed(path, checkpoint)
    assert index.num_rows == 40
    assert index.num_read < 40
    assert lines(index) == list(range(1, 41))


def test_a_broken_index_file_is_made_anew(path: Path, checkpoint) -> None:
    index = indexed(path, checkpoint)
    broken = index.folder / index.names[3]
    broken.write_bytes(broken.read_bytes()[:100])
    (index.folder / "index.json").write_text("{}")
    again = indexed(path, checkpoint)
    assert lines(again) == list(range(1, 41))
    assert 0 < again.num_read < 40


def test_a_picture_that_changed_is_measured_again(path: Path, checkpoint) -> None:
    first = indexed(path, checkpoint)
    Image.new("RGB", (640, 480)).save(path.parent / "a.png")
    again = indexed(path, checkpoint)
    tokens = [sum(table.column("num_image_tokens").to_pylist()) for table in first.tables()]
    more = [sum(table.column("num_image_tokens").to_pylist()) for table in again.tables()]
    assert again.num_read == 40
    assert sum(more) == sum(tokens)  # both read the same files, made anew
    assert sum(more) > 40 * 100


def test_a_picture_that_was_missing_is_looked_for_again(path: Path, checkpoint) -> None:
    (path.parent / "a.png").rename(path.parent / "b.png")
    first = indexed(path, checkpoint)
    codes = {c for table in first.tables() for c in table.column("code").to_pylist()}
    assert codes == {"media.missing"}
    (path.parent / "b.png").rename(path.parent / "a.png")
    again = indexed(path, checkpoint)
    codes = {c for table in again.tables() for c in table.column("code").to_pylist()}
    assert codes == {None}


def test_processes_make_the_same_index(path: Path, checkpoint) -> None:
    alone = indexed(path, checkpoint)
    files = {name: (alone.folder / name).read_bytes() for name in alone.names}
    for name in alone.names:
        (alone.folder / name).unlink()
    together = indexed(path, checkpoint, num_processes=2)
    assert together.names == alone.names
    assert {name: (together.folder / name).read_bytes() for name in together.names} == files


def prepared(path: Path, checkpoint: Checkpoint, source: dict, **data: object) -> PreparedData:
    config = RunConfig.model_validate(
        {
            "model": "tiny:qwen2_5_vl",
            "output": str(path.parent / "run"),
            "data": {"train": [{"path": str(path)} | source], **data},
        }
    )
    return prepare_data(config, checkpoint)


@pytest.mark.parametrize(
    ("source", "number", "most"),
    [
        ({}, 40, 1),
        ({"weight": 2.0}, 80, 2),
        ({"weight": 0.5}, 20, 1),
        ({"num_samples": 10}, 10, 1),
        ({"num_samples": 50}, 50, 2),
        ({"num_samples": 10, "weight": 3.0}, 30, 1),
    ],
)
def test_weights_decide_what_an_epoch_sees(path, checkpoint, source, number, most) -> None:
    samples = prepared(path, checkpoint, source).train.samples
    texts = [sample.conversation.messages[0].text for sample in samples]
    assert len(texts) == number
    counts = {text: texts.count(text) for text in texts}
    assert max(counts.values()) == most
    assert max(counts.values()) - min(counts.values()) <= 1
    again = prepared(path, checkpoint, source)
    assert [s.conversation.messages[0].text for s in again.train.samples] == texts


def test_what_a_run_sees_has_a_name(path: Path, checkpoint) -> None:
    """All processes of a run, and check before it, can compare it."""
    one, same = prepared(path, checkpoint, {}), prepared(path, checkpoint, {}, processes=2)
    assert one.fingerprint == same.fingerprint
    assert prepared(path, checkpoint, {"num_samples": 39}).fingerprint != one.fingerprint
    assert prepared(path, checkpoint, {"weight": 2.0}).fingerprint != one.fingerprint


def test_another_limit_of_pixels_measures_the_pictures_again(path: Path, tiny_folder) -> None:
    folder = str(tiny_folder("qwen2_5_vl"))
    Image.new("RGB", (64, 49)).save(path.parent / "b.png")
    path.write_text(row(0) + row(1, image="b.png"))
    kept = []
    for limit in (64 * 49, 64 * 48, 64 * 49):
        config = RunConfig.model_validate(
            {
                "model": folder,
                "output": str(path.parent / "run"),
                "data": {"train": [str(path)], "images": {"max_file_pixels": limit}},
            }
        )
        data = prepare_data(config, open_checkpoint(folder, config.data))
        [table] = data.train.files[0].tables()
        kept.append(table.column("code").to_pylist())
    assert kept == [[None, None], [None, "media.large"], [None, None]]


def test_a_bad_sample_ends_the_run_where_that_is_said(path: Path, checkpoint) -> None:
    path.write_text(path.read_text() + row(41, image="none.png") + row(42))
    data = prepared(path, checkpoint, {})
    assert len(data.train.samples) == 41
    with pytest.raises(DataError, match=r"rows\.jsonl:41: image: .*none\.png does not exist"):
        prepared(path, checkpoint, {}, on_bad="stop")


def test_a_row_that_changes_while_training_is_noticed(path: Path, checkpoint) -> None:
    samples = prepared(path, checkpoint, {}).train.samples
    assert samples[3].num_tokens > 0
    path.write_text(path.read_text().replace("3?", "What is the colour of the sky?"))
    with pytest.raises(DataError):
        _ = [samples[index] for index in range(40)]
