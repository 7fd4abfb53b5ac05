"""Each fault ends with one clear message, exit code 2, no traceback, and nothing written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def _refused(outcome, tmp_path: Path, *fragments: str) -> None:
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
    assert not (tmp_path / "run").exists()


def test_a_good_sample_would_not_be_refused(command, workbench, tmp_path) -> None:
    """The workbench itself is sound: a run with nothing broken passes the same command."""
    config = workbench(verify__enabled=False)
    outcome = command("train", config)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "merged" / "config.json").is_file()


def test_a_missing_picture(command, workbench, tmp_path) -> None:
    outcome = command("train", workbench([workbench.row(image="images/none.png")]))
    _refused(outcome, tmp_path, "train.jsonl:1", "image", "none.png")


def test_a_corrupt_picture(command, workbench, tmp_path, shapes_folder) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    outcome = command("train", workbench([workbench.row(image=str(broken))]))
    _refused(outcome, tmp_path, "train.jsonl:1", "broken.png")


def test_a_truncated_picture_is_found_when_it_is_decoded(
    command, workbench, tmp_path, shapes_folder
) -> None:
    """The header is whole, so only decoding shows it; the message is the same kind."""
    whole = (shapes_folder / "images" / "00000.png").read_bytes()
    broken = tmp_path / "cut.png"
    broken.write_bytes(whole[: len(whole) // 2])
    outcome = command("train", workbench([workbench.row(image=str(broken))]))
    assert outcome.code == 2
    assert "cut.png" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "merged").exists()


def test_a_corrupt_video(command, workbench, tmp_path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    row = workbench.turns(("human", "<video>\nWhat?"), ("gpt", "No."))
    del row["image"]
    outcome = command("train", workbench([row | {"video": str(broken)}]))
    _refused(outcome, tmp_path, "train.jsonl:1", "broken.mp4")


def test_broken_json(command, workbench, tmp_path) -> None:
    outcome = command("train", workbench('{"image": "x.png", \n'))
    _refused(outcome, tmp_path, "train.jsonl:1")


def test_more_placeholders_than_pictures(command, workbench, tmp_path) -> None:
    rows = [workbench.turns(("human", "<image><image>\nTwo?"), ("gpt", "One."))]
    _refused(command("train", workbench(rows)), tmp_path, "train.jsonl:1", "2", "1")


def test_an_unknown_role(command, workbench, tmp_path) -> None:
    rows = [workbench.turns(("narrator", "<image>\nOnce"), ("gpt", "upon"))]
    _refused(command("train", workbench(rows)), tmp_path, "train.jsonl:1", "narrator")


def test_an_empty_answer(command, workbench, tmp_path) -> None:
    rows = [workbench.row(), workbench.turns(("human", "<image>\nWhat?"), ("gpt", ""))]
    stopped = command("train", workbench(rows, data__on_bad="stop"))
    _refused(stopped, tmp_path, "train.jsonl:2", "conversations[1]")


def test_control_tokens_in_the_data(command, workbench, tmp_path) -> None:
    rows = [
        workbench.turns(("human", "<image>\nWhat?"), ("gpt", "Bye<|im_end|>\n<|im_start|>user"))
    ]
    _refused(command("train", workbench(rows)), tmp_path, "train.jsonl:1", "control token")


def test_a_sample_over_max_length(command, workbench, tmp_path) -> None:
    outcome = command("train", workbench(data__max_length=20))
    _refused(outcome, tmp_path, "All are dropped", "max_length 20", "Raise data.max_length")
    outcome = command("train", workbench(data__max_length=20, data__fit=["shrink"]))
    _refused(outcome, tmp_path, "train.jsonl:1", "max_length 20", "shrink does not bring it under")


def test_a_max_length_over_the_model(command, workbench, tmp_path) -> None:
    outcome = command("train", workbench(data__max_length=10_000_000))
    _refused(outcome, tmp_path, "10000000", "32768")


def test_a_model_that_is_not_there(command, workbench, tmp_path) -> None:
    outcome = command("train", workbench(model=str(tmp_path / "nothing")))
    _refused(outcome, tmp_path, "nothing", "no such folder")


def test_a_model_of_an_unknown_family(command, workbench, tmp_path) -> None:
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    outcome = command("train", workbench(model=str(folder)))
    _refused(outcome, tmp_path, "model_type 'llama'", "qwen2_5_vl")


def test_a_checkpoint_without_its_weights(command, workbench, tmp_path, tiny_folder) -> None:
    folder = tmp_path / "hollow"
    shutil.copytree(tiny_folder("qwen2_vl"), folder)
    (folder / "model.safetensors").unlink()
    outcome = command("train", workbench(model=str(folder)))
    assert outcome.code == 2
    assert "the weights cannot be loaded" in outcome.err


def test_a_configuration_that_contradicts_itself(command, workbench, tmp_path) -> None:
    config = workbench(data__images={"min_pixels": 9000, "max_pixels": 1000})
    _refused(command("train", config), tmp_path, "9000", "1000")


def test_an_unknown_key(command, workbench, tmp_path) -> None:
    config = workbench(training__learning_rat=1e-3)
    _refused(command("train", config), tmp_path, "learning_rat", "learning_rate")


def test_a_plan_that_trains_nothing(command, workbench, tmp_path) -> None:
    frozen = {"language": "freeze", "projector": "freeze", "vision": "freeze"}
    _refused(command("train", workbench(tuning=frozen)), tmp_path, "trains nothing")


def test_lora_on_a_tied_head(command, workbench, tmp_path) -> None:
    from sightline.model import make_tiny_model

    folder = make_tiny_model("qwen2_vl", tmp_path / "tied", tied=True)
    config = workbench(model=str(folder), tuning={"language": "lora", "head": "lora"})
    outcome = command("train", config)
    _refused(outcome, tmp_path, "tuning.head is lora", "ties its head")


def test_a_finished_run_is_not_overwritten(command, workbench, tmp_path) -> None:
    config = workbench(verify__enabled=False)
    assert command("train", config).code == 0
    before = (tmp_path / "run" / "run.json").read_bytes()
    outcome = command("train", config)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_folder_that_is_no_run(command, tmp_path) -> None:
    outcome = command("verify", tmp_path)
    assert outcome.code == 2
    assert "run.json" in outcome.err or "not a" in outcome.err


def test_no_space_left(process, workbench, tmp_path) -> None:
    """A real small file system that fills up; skipped where it cannot be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        outcome = process("train", workbench(output=str(small / "run")))
        assert outcome.code == 2, outcome
        assert "Traceback" not in outcome.err
        assert "space" in outcome.err
        assert not (small / "run" / "merged").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
