"""One process, two with DDP and two with FSDP2 make the same update.

All settings run in one launch of one process and one of two: starting takes longer than they do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("parallel_process.py")
SECONDS = 500
"""A launch that takes longer hangs; its processes wait a minute for each other."""

IMAGE, OTHER_IMAGE, TEXT, OTHER_TEXT, VIDEO, OTHER_VIDEO, IMAGES, LAST_TEXT = range(8)
ENGINES = ("ddp", "fsdp")
WRAPPED = {"ddp": "DistributedDataParallel", "fsdp": "FSDPPeftModelForCausalLM"}
# Samples of a forward pass of a device and passes in a step, for 8 samples on two processes.
SPLITS = ((4, 1), (2, 2), (1, 4))
VISION_ALONE = {"language": "freeze", "projector": "full", "vision": "full"}
STAGES = [
    {
        "until": 1,
        "vision": "freeze",
        "language": {"parts": [{"blocks": "first 2", "mode": "freeze"}]},
    },
    {"until": 2, "language": "freeze"},
    {},
]

# [step][slot][rank] of samples.
LAID_OUT: dict[str, Any] = {
    "text_beside_image": [[[[TEXT], [IMAGE]]]],
    "image_beside_video": [[[[IMAGE], [VIDEO]]]],
    "text_beside_video": [[[[OTHER_TEXT], [OTHER_VIDEO]]]],
    "image_and_video_beside_text": [[[[IMAGE, VIDEO], [TEXT]]]],
    "nothing_beside_image": [[[[], [IMAGE]]]],
    "nothing_beside_text": [[[[TEXT], []]]],
    "pictures_before_text": [[[[IMAGE], [VIDEO]], [[TEXT], [OTHER_TEXT]]]],
    "text_between_pictures": [
        [[[IMAGE], [VIDEO]]],
        [[[TEXT], [OTHER_TEXT]]],
        [[[OTHER_IMAGE], [IMAGES]]],
    ],
}
TUNED: dict[str, Any] = {
    # Only vision trains: text reaches nothing, and DDP has nothing to wait for.
    "vision_alone": {
        "tuning": VISION_ALONE,
        "steps": [
            [[[TEXT], [OTHER_TEXT]]],
            [[[IMAGE], [VIDEO]], [[TEXT], [OTHER_TEXT]]],
            [[[TEXT], [OTHER_TEXT]], [[LAST_TEXT], []]],
            [[[IMAGES], [TEXT]]],
        ],
        "max_steps": 4,
        "optimizer": "adamw_torch",
        "rate": 0.01,
    },
    # What AdamW would do to a tower without gradients, if they were zeros.
    "adam_between_pictures": {
        "steps": LAID_OUT["text_between_pictures"],
        "max_steps": 3,
        "optimizer": "adamw_torch",
        "rate": 0.01,
        "clip": 0.1,
    },
    "stages": {
        "tuning": {"language": "lora", "projector": "full", "vision": "full", "stages": STAGES},
        "steps": LAID_OUT["text_between_pictures"],
        "max_steps": 3,
    },
    "checkpointed": {
        "checkpointing": True,
        "steps": LAID_OUT["image_and_video_beside_text"],
    },
    "full": {
        "tuning": {"language": "full", "projector": "full", "vision": "full"},
        "steps": [[[[IMAGE, TEXT], [VIDEO]], [[IMAGES], []]]],
        "checkpointing": True,
    },
}


def _all_settings() -> dict[str, dict[str, Any]]:
    """Name of each setting, and the setting as two processes run it."""
    found: dict[str, dict[str, Any]] = {}
    for split, packed in [*((split, True) for split in SPLITS), ((2, 2), False)]:
        name = f"{split[0]}x{split[1]}_{'packed' if packed else 'padded'}"
        found[name] = {"split": split, "packed": packed, "like": "all"}
    for name, steps in LAID_OUT.items():
        found[name] = {"steps": steps, "max_steps": len(steps), "like": name}
    for name in ("text_beside_image", "image_and_video_beside_text"):
        found[f"{name}_padded"] = found[name] | {"packed": False}
    return found | {name: setting | {"like": name} for name, setting in TUNED.items()}


SETTINGS = _all_settings()
# What has to be told apart from the settings, or told.
FAULTS: dict[str, Any] = {
    "ddp_unscaled": {"engine": "ddp", "fault": "scale", "steps": LAID_OUT["image_beside_video"]},
    "fsdp_unscaled": {"engine": "fsdp", "fault": "scale", "steps": LAID_OUT["image_beside_video"]},
    "text_last": {
        "engine": "ddp",
        "fault": "unsorted",
        "tuning": VISION_ALONE,
        "steps": LAID_OUT["pictures_before_text"],
    },
    "nan_with_ddp": {"engine": "ddp", "fault": "nan", "steps": LAID_OUT["text_beside_image"]},
    "nan_with_fsdp": {"engine": "fsdp", "fault": "nan", "steps": LAID_OUT["text_beside_image"]},
}
# Packed and padded, and all splits, are to be like one of them.
ALONE: dict[str, dict[str, Any]] = {
    "all": {"split": (8, 1)},
    **{name: {"steps": steps, "max_steps": len(steps)} for name, steps in LAID_OUT.items()},
    "vision_before_text": {"tuning": VISION_ALONE, "steps": LAID_OUT["pictures_before_text"]},
    **TUNED,
}


@pytest.fixture(scope="module")
def given(shapes_rows, tiny_folder, tmp_path_factory) -> dict[str, Any]:
    """A model, and eight samples: pictures, text alone, videos, several pictures."""
    texts = [
        {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": answer}]}
        for ask, answer in (("Red?", "Yes."), ("And what is blue?", "The star is."), ("No?", "No"))
    ]
    chosen = [*shapes_rows[:2], *texts[:2], *shapes_rows[3:6], texts[2]]
    path = tmp_path_factory.mktemp("parallel") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return {"model": str(tiny_folder("qwen2_5_vl")), "data": str(path)}


def _ended(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; none of its processes outlives it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            told, wrong = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # The launcher ends its processes when it is asked to, not when it is killed.
            process.terminate()
            told, wrong = process.communicate(timeout=60)
            wrong += f"\nended after {seconds} s: {command}"
    return subprocess.CompletedProcess(command, process.returncode, told, wrong)


def _launch(
    given: dict[str, Any],
    settings: list[dict[str, Any]],
    folder: Path,
    *,
    num_processes: int,
    seconds: float = SECONDS,
) -> list[dict[str, Any]]:
    folder.mkdir()
    path = folder / "settings.json"
    path.write_text(json.dumps(given | {"settings": settings}), encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *(launcher if num_processes == 2 else []), str(SCRIPT)]
    done = _ended([*command, str(path), str(folder)], seconds)
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-20_000:]}"
    return [
        torch.load(folder / f"{number}.pt", weights_only=True)
        | {"other": folder / f"{number}-other.pt"}
        for number in range(len(settings))
    ]


@pytest.fixture(scope="module")
def alone(given, tmp_path_factory) -> dict[str, Any]:
    """Each setting on one process."""
    folder = tmp_path_factory.mktemp("alone") / "runs"
    return dict(
        zip(ALONE, _launch(given, list(ALONE.values()), folder, num_processes=1), strict=True)
    )


@pytest.fixture(scope="module")
def together(given, tmp_path_factory) -> dict[tuple[str, str], Any]:
    """Each setting on two processes with each engine."""
    folder = tmp_path_factory.mktemp("together") / "runs"
    cases = {
        (name, engine): SETTINGS[name] | {"engine": engine}
        for engine in ENGINES
        for name in SETTINGS
    }
    cases |= {(name, fault["engine"]): fault for name, fault in FAULTS.items()}
    found = _launch(given, list(cases.values()), folder, num_processes=2)
    return dict(zip(cases, found, strict=True))


def _gap(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two updates over that of the second."""
    assert first.keys() == second.keys()
    gap = sum(float((first[name] - second[name]).norm()) ** 2 for name in first) ** 0.5
    return gap / sum(float(second[name].norm()) ** 2 for name in second) ** 0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_are_as_one(name: str, engine: str, alone, together) -> None:
    one, two = alone[SETTINGS[name]["like"]], together[name, engine]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert two["norms"] == pytest.approx(one["norms"], rel=1e-5)
    assert _gap(two["change"], one["change"]) < 1e-5
    for first, second in zip(two["norm_by_tower"], one["norm_by_tower"], strict=True):
        assert first == pytest.approx(second, rel=1e-4)
    assert two["change_by_tower"] == pytest.approx(one["change_by_tower"], rel=1e-4, abs=1e-9)
    # What no process reached has no gradient: with zeros AdamW would move it by its momentum.
    assert two["have"] == one["have"]
    if one["eval_loss"] is not None:
        assert two["eval_loss"] == pytest.approx(one["eval_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("fault", "like"),
    [
        ("ddp_unscaled", "image_beside_video"),
        ("fsdp_unscaled", "image_beside_video"),
        # Gradients of earlier micro-batches are never shared: each process goes its own way.
        ("text_last", "vision_before_text"),
    ],
)
def test_what_is_wrong_is_told_apart(fault: str, like: str, alone, together) -> None:
    found = together[fault, FAULTS[fault]["engine"]]
    assert _gap(found["change"], alone[like]["change"]) > 0.1


def test_a_value_that_is_not_finite_ends_all_that_share_weights(together) -> None:
    """One process has it; both run the batch again, and tell where it came from."""
    first = together["nan_with_fsdp", "fsdp"]
    other = torch.load(first["other"], weights_only=True)
    assert "the loss of another process is not finite at step 1" in first["error"]
    assert "the loss is nan at step 1, micro-batch 1" in other["error"]
    for told in (first["error"], other["error"]):
        assert "It began in model.visual.patch_embed" in told


def test_a_value_that_is_not_finite_ends_all_that_share_gradients(together) -> None:
    first = together["nan_with_ddp", "ddp"]
    other = torch.load(first["other"], weights_only=True)
    assert "the gradients are not finite at step 1" in first["error"]
    assert "It began in model.visual.patch_embed" in other["error"]


def test_without_blanks_processes_that_share_weights_wait_for_each_other(given, tmp_path) -> None:
    """The planted fault: one process calls the vision tower, the other does not."""
    setting = {"engine": "fsdp", "fault": "no_blanks", "steps": LAID_OUT["text_beside_image"]}
    with pytest.raises(AssertionError, match=r"parallel_process\.py"):
        _launch(given, [setting], tmp_path / "runs", num_processes=2, seconds=60)
    assert not (tmp_path / "runs" / "0.pt").exists()
