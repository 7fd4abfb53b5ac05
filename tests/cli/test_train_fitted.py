"""Pictures inside a table, boxes as numbers, and a limit under their length: to a certificate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from sightline.data.shapes import write_shapes

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "detect.yaml"


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, list[list[list[int]]]]:
    """A Parquet file in the shape of ms-swift, and the boxes in it, pixels of the files."""
    made = tmp_path / "made"
    write_shapes(made, num_images=4, max_shapes=2, height=336, width=336)
    rows, boxes = [], []
    for line in (made / "boxes.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        shapes = record["shapes"]
        boxes.append([shape["box"] for shape in shapes])
        answer = ", ".join('{"bbox_2d": <bbox>, "label": "<ref-object>"}' for _ in shapes)
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": "<image>Detect every shape."},
                    {"role": "assistant", "content": f"[{answer}]"},
                ],
                "images": [{"bytes": (made / record["file"]).read_bytes(), "path": None}],
                "objects": {
                    "ref": [shape["label"] for shape in shapes],
                    "bbox": [[float(side) for side in shape["box"]] for shape in shapes],
                },
            }
        )
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path, boxes


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_shrunk_table_ends_in_a_certificate(
    command, table, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, boxes = table
    settings = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    settings["model"] = f"tiny:{family}"
    settings["output"] = "runs/table"
    settings["training"]["epochs"] = 25
    settings["data"] = {"train": str(path)}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    plain = json.loads(command("check", "run.yaml", "--json").out)
    assert plain["fates"]["kept"] == 4
    lengths = [source["lengths"]["max"] for source in plain["sources"]]
    # Under the longest: its picture has to give way, and its boxes move with it.
    limit = ["--set", f"data.max_length={max(lengths) - 12}"]
    said = json.loads(command("check", "run.yaml", "--json", *limit).out)
    assert any("data.images.max_pixels" in one["what"] for one in said["suggestions"])
    done = command("train", "run.yaml", *limit)
    assert done.code == 0, done.out + done.err
    run = tmp_path / "runs" / "table"
    fates = [json.loads(line) for line in (run / "ledger.jsonl").read_text("utf-8").splitlines()]
    shrunk = [fate["policies"] for fate in fates if fate["fate"] == "fitted"]
    assert shrunk
    assert all(policies == ["shrink"] for policies in shrunk)
    certificate = json.loads((run / "certificate.json").read_text("utf-8"))
    assert certificate["verdict"] == "holds"
    [size] = [check for check in certificate["checks"] if check["id"] == "tokens.media_size"]
    assert size["figures"] == {"num_samples": 4, "num_shrunk": len(shrunk)}
    # Pixels of the file again, after the way through the picture that the model sees.
    rows = json.loads((run / "predictions.json").read_text("utf-8"))["samples"]
    assert len(rows) == 4
    for row, wanted in zip(rows, boxes, strict=True):
        assert row["equal"]
        for name in ("annotated_boxes", "predicted_boxes"):
            found = np.array([box["box"] for box in row[name]])
            assert np.abs(found - np.array(wanted)).max() <= 2
