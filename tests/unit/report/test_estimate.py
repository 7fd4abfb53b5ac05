"""The estimate in the terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from sightline.report.estimate import estimate_report, proposed_changes

GIB = 2**30


def record(**changed: Any) -> dict[str, Any]:
    step = {
        "flops": 4e15,
        "tflops": 989,
        "utilisation": 0.4,
        "seconds": 12.4,
        "steps_an_epoch": 1000,
        "tokens": 40_960.0,
        "micro_batches": 8.0,
        "tokens_a_second": 3303.2,
        "padding_share": 0.0,
        "idle_share": 0.0,
    }
    return {
        "device": {"title": "NVIDIA H100 SXM", "memory_gib": 80, "usable_share": 0.9},
        "precision": "bf16",
        "packed": True,
        "num_ranks": 1,
        "settings": {
            "batch_size": 1,
            "accumulation": 8,
            "tokens_per_row": None,
            "checkpointing": True,
            "num_workers": 0,
        },
        "parts": {
            "weights": 15 * GIB,
            "optimizer": GIB // 2,
            "gradients": GIB // 4,
            "activations": 8 * GIB,
            "logits": GIB,
            "transient": GIB // 4,
        },
        "peak_bytes": 25 * GIB,
        "fits": True,
        "batch": {
            "samples": 1,
            "indices": [3],
            "tokens": 8192,
            "longest_tokens": 8192,
            "vision_tokens": 4096,
            "supervised_tokens": 512,
        },
        "stage": 0,
        "stages": ["1"],
        "trained": 1000,
        "step": step,
        "proposal": {
            "fits": True,
            "batch_size": 4,
            "accumulation": 2,
            "tokens_per_row": 16_384,
            "checkpointing": False,
            "num_workers": 3,
            "peak_bytes": 70 * GIB,
            "step": {**step, "seconds": 9.0},
        },
        "remedies": [],
        "warnings": [],
        **changed,
    }


def shown(told: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(estimate_report(told))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= 80
    return "\n".join(lines)


def test_parts_are_in_gib_and_the_proposal_names_keys() -> None:
    text = shown(record())
    rows = [line.split() for line in text.splitlines()]
    assert ["weights", "15.0", "60%"] in rows
    assert ["optimizer", "0.50", "2%"] in rows
    assert ["together", "25.0", "of", "80:", "fits"] in rows
    assert "a step takes about 12 s, an epoch 3 h" in text
    assert "proposed, 70.0 GiB, about 9 s a step" in text
    assert proposed_changes(record()) == [
        "training.batch_size: 4",
        "training.gradient_accumulation: 2",
        "training.tokens_per_row: 16384",
        "training.gradient_checkpointing: false",
        "training.num_workers: 3",
    ]
    assert all(change in text for change in proposed_changes(record()))


def test_what_is_as_it_should_be_is_not_proposed() -> None:
    told = record()
    told["proposal"] |= told["settings"]
    assert proposed_changes(told) == []
    assert "no other settings are proposed" in shown(told)


def test_where_nothing_fits_the_remedies_are_told() -> None:
    told = record(fits=False, remedies=["lower data.max_length", "freeze a tower"])
    told["proposal"] |= {"fits": False, "peak_bytes": 90 * GIB}
    text = shown(told)
    assert "does not fit" in text
    assert "nothing fits: the smallest settings take 90.0 GiB" in text
    assert text.index("lower data.max_length") < text.index("freeze a tower")


def test_the_stage_that_takes_most_is_named() -> None:
    text = shown(record(stage=1, stages=["warm", "wide"]))
    assert "most in stage wide, of warm, wide" in text


def test_a_device_without_a_rate_has_operations_and_no_time() -> None:
    told = record()
    told["step"] |= {"seconds": None, "tflops": None, "tokens_a_second": None}
    assert "4,000.0 TFLOP; its time here is not known" in shown(told)
    assert "a step has 40,960 tokens in 8 micro-batches\n" in shown(told)


def test_what_padding_and_waiting_cost_is_told() -> None:
    told = record(num_ranks=2)
    told["step"] |= {"padding_share": 0.25, "idle_share": 0.04, "micro_batches": 2.5}
    text = shown(told)
    assert "a step has 40,960 tokens in 2.5 micro-batches, 3,303 tokens a second" in text
    assert "25% padding; 2 processes wait 4% of the time" in text


def test_a_micro_batch_of_several_samples_says_how_they_are_laid_out() -> None:
    several = record()["batch"] | {"samples": 3, "tokens": 9000}
    assert "micro-batch of 3 samples packed: 9,000 tokens, 4,096 of" in shown(record(batch=several))
    padded = shown(record(batch=several, packed=False))
    assert "micro-batch of 3 samples padded: 9,000 tokens, 4,096 of" in padded
