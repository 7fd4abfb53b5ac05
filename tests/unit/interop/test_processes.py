"""How many processes a training of another tool has, and what is said of starting them here."""

from __future__ import annotations

import pytest

from sightline.errors import ConfigError

ROWS = 4096 * 8


def processes(result) -> float:
    """Processes that a step was counted for: Qwen's own code, 8 packed rows a process."""
    return result.values["training"]["tokens_per_step"] / ROWS


@pytest.mark.parametrize(
    ("launch", "expected", "key", "words"),
    [
        ("torchrun --nproc_per_node=4", 4, "nproc_per_node", "train run.yaml --processes 4"),
        ("torchrun --nproc-per-node 4", 4, "nproc_per_node", "--processes 4"),
        ("torchrun --nproc_per_node=1", 1, "nproc_per_node", "One process is what"),
        ("torchrun --nproc_per_node=gpu", 1, "nproc_per_node", "--processes N. The file"),
        ("torchrun --nproc_per_node=$GPUS", 1, "nproc_per_node", "does not say how many"),
        ("deepspeed --num_gpus 2", 2, "num_gpus", "--processes 2"),
        ("accelerate launch --num_processes 6", 6, "num_processes", "--processes 6"),
        (
            "accelerate launch --num_processes 6 --num_machines 2",
            6,
            "num_machines",
            "on each machine torchrun --nnodes 2",
        ),
        ("torchrun --nnodes 2 --nproc_per_node 4", 8, "nnodes", "--nnodes 2 --nproc_per_node 4"),
        ("torchrun --nnodes 2 --nproc_per_node 4", 8, "nproc_per_node", "torchrun --nnodes 2"),
        ("torchrun --nnodes 1:3 --nproc_per_node 4", 1, "nnodes", "--nnodes M"),
        ("torchrun --nnodes 1 --nproc_per_node 4", 4, "nnodes", "nothing to be set"),
        ("torchrun --nnodes 3", 3, "nnodes", "--nnodes 3 --nproc_per_node 1"),
    ],
)
def test_a_launcher_s_options(tools, launch: str, expected: int, key: str, words: str) -> None:
    result = tools.official("--data_packing True", launch=launch)
    assert processes(result) == expected
    [said] = tools.rows(result, key)
    assert (said.verdict, said.target) == ("none", None)
    assert words in said.note


@pytest.mark.parametrize(
    ("launch", "is_known"),
    [
        ("python", True),
        ("torchrun", True),
        ("torchrun --nproc_per_node 2", True),
        ("accelerate launch", False),
        ("/usr/bin/deepspeed", False),
        ("torchrun --nproc_per_node $N", False),
        ("torchrun --nnodes $N --nproc_per_node 2", False),
    ],
)
def test_an_unknown_number_is_to_be_multiplied(tools, launch: str, is_known: bool) -> None:
    result = tools.official("--data_packing True", launch=launch)
    [batch] = tools.rows(result, "per_device_train_batch_size")
    assert ("Multiply it" in batch.note) is not is_known


def test_swift_s_accumulation_makes_up_for_processes(tools) -> None:
    """Its steps are of 16 samples where it is not told otherwise."""
    of = {}
    for number in (1, 2, 4):
        launch = f"NPROC_PER_NODE={number} swift sft"
        result = tools.swift("--per_device_train_batch_size 2", launch=launch)
        training = tools.loaded(result).training
        of[number] = (training.batch_size, training.gradient_accumulation)
    assert of == {1: (2, 8), 2: (2, 4), 4: (2, 2)}
    given = tools.swift(
        "--gradient_accumulation_steps 3", launch="NPROC_PER_NODE=4 NNODES=2 swift sft"
    )
    assert given.values["training"]["gradient_accumulation"] == 3
    # With a number that it finds itself, a step is of as many rows.
    unknown = tools.swift(
        "--packing true --max_length 4096", launch="accelerate launch swift/cli/sft.py"
    )
    [batch] = tools.rows(unknown, "per_device_train_batch_size")
    assert (batch.result, "Multiply it" in batch.note) == (16 * 4096, False)
    torchrun = tools.swift("", launch="torchrun --nproc_per_node 4 swift/cli/sft.py")
    assert tools.loaded(torchrun).training.gradient_accumulation == 4
    file = tools.swift_file(ENV={"NPROC_PER_NODE": 8})
    assert tools.loaded(file).training.gradient_accumulation == 2
    assert "--processes 8" in tools.rows(file, "NPROC_PER_NODE")[0].note


def test_llamafactory_s_keys(tools) -> None:
    result = tools.llamafactory(ray_num_workers=4, FORCE_TORCHRUN=1)
    assert "--processes 4 --ray" in tools.rows(result, "ray_num_workers")[0].note
    assert "--processes N" in tools.rows(result, "FORCE_TORCHRUN")[0].note
    assert {row.verdict for row in tools.rows(result, "ray_num_workers")} == {"none"}


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        ("torchrun --nproc_per_node=four", ("nproc_per_node", "'four'", "a number")),
        ("torchrun --nproc_per_node=0", ("nproc_per_node", "'0'", "above 0")),
        ("torchrun --nnodes -1", ("nnodes", "'-1'", "above 0")),
    ],
)
def test_a_wrong_number_is_refused(tools, launch: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        tools.official(launch=launch)
    for word in (str(tools.folder / "sft.sh"), *words):
        assert word in str(caught.value)
