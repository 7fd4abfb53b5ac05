"""Micro-batches that cost most, and the time of a step, from the run's own plan of steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from sightline.config import RunConfig
from sightline.data.batches import StepPlan, sizes_of
from sightline.errors import PlanError
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import PreparedData, is_packed, prepare_data
from sightline.preparation.costs import cost_rates
from sightline.preparation.estimate import Device, estimate
from sightline.preparation.estimate.batches import Batches, Load
from sightline.preparation.estimate.costs import Costs, planned_skeleton
from sightline.preparation.estimate.estimate import make_batches
from sightline.preparation.estimate.settings import Settings
from sightline.preparation.estimate.timing import step_time
from sightline.training.loss import model_loss
from sightline.training.steps import shape_of
from sightline.tuning import TuningPlan

# Slow enough that operations count, not calls.
SLOW = Device(
    name="slow",
    title="a slow core",
    memory_gib=1,
    half_tflops=None,
    single_tflops=1e-6,
    has_bf16=False,
    is_gpu=False,
    source="made up",
)


class Run(NamedTuple):
    """A run on texts of given lengths."""

    config: RunConfig
    checkpoint: Checkpoint
    data: PreparedData
    batches: Batches
    planned: tuple[TuningPlan, Any]
    settings: Settings

    @property
    def costs(self) -> Costs:
        return Costs(self.config, self.checkpoint, self.planned, self.batches, model_loss, SLOW)

    @property
    def lengths(self) -> np.ndarray:
        return self.data.train.samples.column("num_tokens")

    def tokens(self, load: Load) -> list[int]:
        return sorted(int(length) for length in self.lengths[list(load.samples)])


@pytest.fixture
def make_run(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Callable[..., Run]:
    """A run of text alone: so many words an answer, one conversation each."""

    def make(words: Sequence[int], *, num_ranks: int = 1, **training: Any) -> Run:
        rows = tmp_path / "rows.jsonl"
        rows.write_text(
            "".join(
                json.dumps(
                    {
                        "messages": [
                            {"role": "user", "content": "describe"},
                            {"role": "assistant", "content": "red " * count},
                        ]
                    }
                )
                + "\n"
                for count in words
            )
        )
        config = RunConfig.model_validate(
            {
                "model": str(tiny_folder("qwen2_5_vl")),
                "data": {"train": str(rows)},
                "training": {"precision": "fp32"} | training,
                "output": str(tmp_path / "run"),
            }
        )
        checkpoint = open_checkpoint(config.model, config.data)
        data = prepare_data(config, checkpoint)
        planned = planned_skeleton(config, checkpoint, torch.float32)
        batches = make_batches(config, checkpoint, data, planned[0], num_ranks=num_ranks)
        settings = Settings.of(config.training)
        return Run(config, checkpoint, data, batches, planned, settings)

    return make


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize(
    "training",
    [
        {"batch_size": 3, "gradient_accumulation": 2},
        {"tokens_per_step": 900, "tokens_per_row": 300},
    ],
    ids=["samples", "tokens"],
)
def test_the_steps_are_those_of_training(
    make_run: Callable[..., Run], packing: str, training: dict[str, Any]
) -> None:
    run = make_run(range(10, 130, 3), packing=packing, **training)
    section, packed = run.config.training, packing == "on"
    rates = cost_rates(
        run.checkpoint,
        run.planned[0],
        packed=packed,
        checkpointing=section.gradient_checkpointing,
    )
    shape = shape_of(section, packed=packed, num_ranks=1)
    wanted = StepPlan(sizes_of(run.data.train.samples, rates), shape)
    plan, steps = run.batches.steps(run.settings)
    assert plan.num_steps == wanted.num_steps
    assert steps == [wanted.step(0, number) for number in range(wanted.num_steps)]


def test_a_step_of_the_longest_samples_is_among_the_costliest(
    make_run: Callable[..., Run],
) -> None:
    # Two long ones of sixty: the first epoch has them in different steps.
    run = make_run([20] * 30 + [300, 310] + [20] * 28, batch_size=2, gradient_accumulation=1)
    long = sorted(run.lengths.tolist())[-2:]
    _, steps = run.batches.steps(run.settings)
    planned = [sorted(run.lengths[list(step.samples)].tolist()) for step in steps]
    assert long not in planned
    [costliest] = run.batches.costliest(run.settings)
    assert run.tokens(costliest) == long
    assert not costliest.follows


def test_rows_are_as_full_as_the_plan_makes_them(make_run: Callable[..., Run]) -> None:
    run = make_run(range(10, 130, 3), packing="on", tokens_per_step=1200, tokens_per_row=300)
    _, steps = run.batches.steps(run.settings)
    first, later = (
        max(
            int(run.lengths[list(slot[0].samples)].sum())
            for step in steps
            for number, slot in enumerate(step.slots)
            if (number > 0) == follows
        )
        for follows in (False, True)
    )
    loads = run.batches.costliest(run.settings)
    found = dict.fromkeys((False, True), 0)
    for load in loads:
        found[load.follows] = max(found[load.follows], sum(run.tokens(load)))
    assert later <= found[True] <= 300
    # Gradients are there beside a later row: a first one counts only where it costs more.
    assert found[False] == 0 or found[False] >= found[True]
    assert max(found.values()) >= first


def test_later_micro_batches_find_all_gradients_and_the_first_only_its_own(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(
        [300, 310, 320, 330],
        batch_size=1,
        gradient_accumulation=2,
        gradient_checkpointing=False,
    )
    costs = run.costs
    gradients = costs.static(0).gradients
    first, later = (
        costs.of(run.settings, 0, Load(samples=(1,), follows=follows)) for follows in (False, True)
    )
    assert 0 <= first.parts["gradients"] < gradients
    assert later.parts["gradients"] >= gradients
    assert later.peak_bytes > first.peak_bytes
    assert costs.worst(run.settings).parts["gradients"] >= gradients


def test_padding_is_counted_as_tokens(make_run: Callable[..., Run]) -> None:
    run = make_run(
        [300, 20, 20, 20, 100, 100, 100, 100],
        packing="off",
        batch_size=4,
        gradient_accumulation=1,
    )
    longest = int(run.lengths.max())
    most = max(
        run.batches.contents(load.samples)["tokens"] for load in run.batches.costliest(run.settings)
    )
    assert most == 4 * longest
    samples = tuple(int(index) for index in np.argsort(run.lengths)[-4:])
    assert run.batches.contents(samples)["longest_tokens"] == longest


@pytest.mark.parametrize("packing", ["on", "off"])
def test_a_step_takes_what_its_micro_batches_take(
    make_run: Callable[..., Run], packing: str
) -> None:
    run = make_run(
        [20, 300, 45, 60, 150, 90, 30, 210],
        packing=packing,
        batch_size=2,
        gradient_accumulation=2,
    )
    costs = run.costs
    _, steps = run.batches.steps(run.settings)
    flops = [
        costs.run(0, slot[0].samples, checkpointing=True, accumulates=True).flops
        for step in steps
        for slot in step.slots
    ]
    found = step_time(costs, 0, run.settings, SLOW)
    assert found["flops"] == pytest.approx(sum(flops) / len(steps), rel=0.05)
    assert found["seconds"] == pytest.approx(found["flops"] / (1e-6 * 1e12 * 0.6))
    assert found["tokens"] == run.lengths.sum() / len(steps)
    assert found["tokens_a_second"] == pytest.approx(found["tokens"] / found["seconds"])
    assert (found["micro_batches"], found["steps_an_epoch"]) == (2, 2)
    assert (found["padding_share"] > 0.05) == (packing == "off")


def test_ranks_share_a_step_and_wait_for_the_slowest(make_run: Callable[..., Run]) -> None:
    words = [20, 300, 45, 60, 150, 90, 30, 210]
    one = make_run(words, batch_size=4, gradient_accumulation=1)
    two = make_run(words, batch_size=4, gradient_accumulation=1, num_ranks=2)
    alone = step_time(one.costs, 0, one.settings, SLOW)
    shared = step_time(two.costs, 0, two.settings, SLOW)
    assert alone["idle_share"] == 0
    assert 0 < shared["idle_share"] < 0.5
    # Both compute what one would: twice the samples a step, and the slower one is waited for.
    work = alone["flops"] * alone["steps_an_epoch"]
    assert 2 * shared["flops"] * shared["steps_an_epoch"] * (1 - shared["idle_share"]) == (
        pytest.approx(work, rel=0.05)
    )


def test_a_run_in_tokens_is_proposed_longer_rows(make_run: Callable[..., Run]) -> None:
    run = make_run(range(10, 130, 3), tokens_per_step=2000, tokens_per_row=256)
    found = estimate(run.config, run.checkpoint, run.data, model_loss, SLOW)
    assert found["packed"]
    assert found["batch"]["tokens"] <= 256
    assert found["proposal"]["tokens_per_row"] == 1024
    assert found["proposal"]["tokens_per_step"] == 2000
    assert found["proposal"]["batch_size"] == found["settings"]["batch_size"]
    assert found["proposal"]["step"]["micro_batches"] < found["step"]["micro_batches"]
    assert found["proposal"]["step"]["steps_an_epoch"] == found["step"]["steps_an_epoch"]


def test_packing_is_refused_where_training_refuses_it(make_run: Callable[..., Run]) -> None:
    run = make_run([20, 30])
    assert is_packed("auto", run.checkpoint)
    assert not is_packed("off", run.checkpoint)
    text: Any = run.checkpoint.config
    text = text.text_config
    before = text.layer_types
    text.layer_types = ["linear_attention", *before[1:]]
    try:
        assert not is_packed("auto", run.checkpoint)
        with pytest.raises(PlanError, match="linear_attention"):
            is_packed("on", run.checkpoint)
    finally:
        text.layer_types = before
