"""The demo photographs: checked, and brought under limits that cut them in every other tool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.config import load_config
from sightline.data.conversation import ImagePart
from sightline.model import open_checkpoint
from sightline.preparation import prepare_data

HERE = Path(__file__).resolve().parent
FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize(
    ("policies", "share_of_length", "done"),
    [
        (["shrink"], 0.8, ["shrink"]),
        (["split"], 0.8, ["split"]),
        (["trim"], 0.8, ["trim"]),
        (["drop"], 0.8, ["drop"]),
        (["split", "shrink"], 0.35, ["split", "shrink"]),
    ],
)
def test_the_conversation_of_two_images_is_fitted(
    shared: Path,
    tmp_path: Path,
    tiny_folder: Callable[[str], Path],
    family: str,
    policies: list[str],
    share_of_length: float,
    done: list[str],
) -> None:
    """At a limit inside its second image, where every other tool cuts through placeholders."""
    config = load_config(HERE / "llamafactory_demo.yaml", [f"output={tmp_path}/run"])
    checkpoint = open_checkpoint(str(tiny_folder(family)), config.data)
    whole = prepare_data(config, checkpoint).train.samples[0]
    second = whole.layout.vision_spans[1][0]
    limit = int(whole.num_tokens * share_of_length)
    if share_of_length == 0.8:
        assert second.start < limit
    config = load_config(
        HERE / "llamafactory_demo.yaml",
        [
            f"output={tmp_path}/run",
            f"data.max_length={limit}",
            f"data.fit={[*policies, *(['drop'] if 'drop' not in policies else [])]}",
            "data.vision_share=0.1",
        ],
    )
    data = prepare_data(config, checkpoint)
    data.train.write_ledger(tmp_path / "ledger.jsonl", tmp_path / "quarantine.jsonl")
    [first, *_] = map(json.loads, (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines())
    assert (first["line"], first["policies"]) == (2, done)
    assert str(limit) in first["reason"]
    pieces = [
        sample
        for sample in data.train.samples
        if sample.conversation.origin.line == 2
        and sample.conversation.origin.file.name == "mllm_demo.json"
    ]
    assert [piece.num_tokens for piece in pieces] == first["tokens"]
    assert all(tokens <= limit for tokens in first["tokens"])
    answers = [
        m.text for piece in pieces for m in piece.conversation.messages if m.role == "assistant"
    ]
    all_answers = [m.text for m in whole.conversation.messages if m.role == "assistant"]
    if done == ["drop"]:
        assert answers == []
    elif done == ["trim"]:
        assert answers == all_answers[1:]
        assert first["answers_lost"] == 1
    else:
        assert answers == all_answers
    if "split" in done:
        # Each question with its own picture.
        assert [sum(1 for _ in piece.conversation.images()) for piece in pieces] == [1, 1]
    if "shrink" in done:
        assert 0 < first["shrunk_to"] < 1
        assert all(isinstance(image.part, ImagePart) for image in pieces[0].images)


def test_check_of_the_demo(shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    from sightline.cli.check import check_command

    path = HERE / "llamafactory_demo.yaml"
    sets = [f"output={tmp_path}/run"]
    assert check_command(path, sets, as_json=False, strict=True, output=None) == 0
    said = capfd.readouterr().out
    assert "nothing is wrong with the data" in said
    assert "sharegpt" in said
    record = json.loads((tmp_path / "run.check/check.json").read_text("utf-8"))
    assert [source["samples"] for source in record["sources"]] == [6, 3]
    assert record["fates"] == {"kept": 9, "fitted": 0, "dropped": 0, "quarantined": 0}
    assert record["tokens"]["image"] > 0
    assert record["tokens"]["video"] > 0
    assert record["keeps"][-1]["max_length"] == record["lengths"]["max"]


def test_the_prefix_of_the_charts_is_suggested(
    shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """The rows say demo/images, the disk has images: what to set is said, and it is right."""
    from sightline.cli.check import check_command

    source = shared / "data/qwen_demo/single_images.json"
    path = tmp_path / "run.yaml"
    path.write_text(f"model: tiny:qwen2_vl\ndata: {{train: {source}}}\noutput: {tmp_path}/run\n")
    with pytest.raises(SystemExit) as ended:
        check_command(path, [], as_json=False, strict=False, output=None)
    assert ended.value.code == 2
    assert "set strip_prefix to 'demo'" in capfd.readouterr().err
    mended = path.read_text().replace(str(source), f"[{{path: {source}, strip_prefix: demo}}]")
    path.write_text(mended)
    assert check_command(path, [], as_json=False, strict=True, output=None) in (0, 1)
