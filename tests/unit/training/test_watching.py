"""What is watched while a run trains, on a small model of three towers under the real Trainer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from sightline.records import RunDirectory
from sightline.training.alarms import Alarm, RunFacts
from sightline.training.watching import RunWatch, Throughput, WeightChange
from sightline.tuning import Place


class Towers(nn.Module):
    """A number from a vision layer, a projector and an embedding, and what it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = nn.Linear(6, 8)
        self.projector = nn.Linear(8, 8)
        self.language = nn.Linear(8, 8)

    def forward(self, pixels: torch.Tensor, **batch: torch.Tensor) -> torch.Tensor:
        hidden = self.projector(torch.tanh(self.vision(pixels)))
        return self.language(torch.tanh(hidden)).sum(dim=-1)


class WatchedTrainer(Trainer):
    """The calls that `RunWatch` asks for, as the trainer of a run makes them."""

    watch: RunWatch

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        return (model(**inputs) - inputs["wanted"]).square().mean()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.watch.saw(inputs, num_items_in_batch)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.watch.check_losses([loss])
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(self.watch.fill(logs), start_time)

    def create_optimizer(self, model: Any = None) -> Any:
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": list(self.model.vision.parameters()), "lr": 1e-2, "tower": "vision"},
                    {"params": list(self.model.projector.parameters()), "tower": "projector"},
                    {"params": list(self.model.language.parameters()), "tower": "language"},
                ],
                lr=1e-3,
            )
        return self.optimizer


class Recorder(TrainerCallback):
    """What a tracker is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kw: Any) -> None:
        self.told.append(dict(logs))


def _samples(count: int = 8) -> list[dict[str, torch.Tensor]]:
    """Rows of 5 tokens, 3 of them supervised and one of those in the first column; a picture."""
    return [
        {
            "pixels": torch.sin(torch.arange(6.0) + index),
            "wanted": torch.tensor(float(index % 3)),
            "attention_mask": torch.tensor([1, 1, 1, 1, 0]),
            "labels": torch.tensor([5, -100, 6, 7, -100]),
            "image_grid_thw": torch.tensor([1, 2, 2]),
        }
        for index in range(count)
    ]


FACTS = RunFacts(
    vocabulary=1000,
    is_random=True,
    towers=(frozenset({"vision", "projector", "language"}),),
    trainable_share=1.0,
    learning_rate=1e-2,
)


def _place(name: str) -> Place:
    return Place(name.partition(".")[0], "all", "mlp")  # type: ignore[arg-type]


def _trainer(
    folder: Path,
    *,
    samples: list[dict[str, torch.Tensor]] | None = None,
    stage: Callable[[], int] = lambda: 1,
    tell: Callable[[Alarm], None] = lambda alarm: None,
    **arguments: Any,
) -> WatchedTrainer:
    torch.manual_seed(0)
    model = Towers()
    settings: dict[str, Any] = {
        "output_dir": str(folder / "checkpoints"),
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "max_grad_norm": 1e-3,
        "lr_scheduler_type": "linear",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "save_strategy": "no",
    } | arguments
    trainer = WatchedTrainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=samples or _samples(),  # type: ignore[arg-type]
        eval_dataset=None,
    )
    parameters = list(model.named_parameters())
    towers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in parameters:
        towers.setdefault(name.partition(".")[0], []).append(parameter)
    trainer.watch = RunWatch(
        run=RunDirectory.create(folder / "run"),
        model=model,
        towers=towers,
        change=WeightChange(model, parameters, _place),
        facts=FACTS,
        tell=tell,
    )
    trainer.watch.attach(lambda batch, num_tokens: trainer.compute_loss(model, batch), stage)
    trainer.add_callback(trainer.watch)
    return trainer


def _lines(folder: Path) -> list[dict[str, Any]]:
    return RunDirectory(folder / "run").read_metrics()


def test_a_line_says_everything_by_tower(tmp_path: Path) -> None:
    _trainer(tmp_path).train()
    lines = _lines(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert set(line["grad_norm_by_tower"]) == {"vision", "projector", "language"}
        # Norms before clipping, which brings their sum to a thousandth here.
        total = math.hypot(*line["grad_norm_by_tower"].values())
        assert total == pytest.approx(line["grad_norm"], rel=1e-5)
        assert total > 0.01
        assert line["stage"] == 1
        assert line["supervised_tokens"] == 8
        assert line["media"] == 4
        assert line["tokens_per_second"] == pytest.approx(4 * line["images_per_second"])
        assert line["memory_mib"] > 10


def test_norms_of_towers_are_those_of_their_gradients(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = Towers()
    for batch in (_samples()[:2], _samples()[2:4]):
        joined = {key: torch.stack([row[key] for row in batch]) for key in batch[0]}
        ((alone(**joined) - joined["wanted"]).square().mean()).backward()
    wanted = {
        name: math.hypot(*(float(one.grad.norm()) for one in module.parameters()))
        for name, module in alone.named_children()
    }
    trainer = _trainer(tmp_path, max_steps=1, train_sampling_strategy="sequential")
    trainer.train()
    assert _lines(tmp_path)[0]["grad_norm_by_tower"] == pytest.approx(wanted, rel=1e-4)


def test_the_rates_are_those_that_the_step_used(tmp_path: Path) -> None:
    _trainer(tmp_path).train()
    lines = _lines(tmp_path)
    assert [line["learning_rate_by_tower"]["language"] for line in lines] == pytest.approx(
        [1e-3, 7.5e-4, 5e-4, 2.5e-4]
    )
    assert [line["learning_rate"] for line in lines] == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])


def test_a_frozen_tower_has_neither_norm_nor_rate(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    trainer.model.vision.requires_grad_(False)
    trainer.train()
    last = _lines(tmp_path)[-1]
    assert set(last["grad_norm_by_tower"]) == {"projector", "language"}
    assert set(last["learning_rate_by_tower"]) == {"projector", "language"}
    assert last["learning_rate"] == pytest.approx(2.5e-4)
    assert last["weight_change_by_tower"]["vision"] == 0.0
    assert last["weight_change_by_tower"]["language"] > 0


def test_a_tower_without_a_gradient_has_the_norm_zero(tmp_path: Path) -> None:
    told: list[Alarm] = []
    trainer = _trainer(tmp_path, tell=told.append)
    projector = trainer.model.projector
    projector.register_forward_pre_hook(lambda module, inputs: inputs[0].detach())
    trainer.train()
    assert [line["grad_norm_by_tower"]["vision"] for line in _lines(tmp_path)] == [0.0] * 4
    assert [(one.id, one.tower, one.step) for one in told] == [("gradient.zero", "vision", 3)]
    # At once in its file, too.
    assert RunDirectory(tmp_path / "run").read_alarms() == [told[0].record()]


def test_trackers_are_told_all_of_it(tmp_path: Path) -> None:
    trainer, tracker = _trainer(tmp_path), Recorder()
    # Before all others, as the Trainer puts the trackers of `report_to`.
    trainer.callback_handler.callbacks.insert(0, tracker)
    trainer.train()
    first = tracker.told[0]
    for name in ("grad_norm", "weight_change", "learning_rate"):
        for tower in ("vision", "projector", "language"):
            assert isinstance(first[f"{name}/{tower}"], float)
    assert {"tokens_per_second", "images_per_second", "memory_mib", "stage"} <= set(first)
    line = _lines(tmp_path)[0]
    assert line["grad_norm_by_tower"]["vision"] == first["grad_norm/vision"]


def test_a_step_belongs_to_the_stage_that_trained_it(tmp_path: Path) -> None:
    class Stages(TrainerCallback):
        now = 1

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.now = 1 if state.global_step < 2 else 2

    stages = Stages()
    trainer = _trainer(tmp_path, stage=lambda: stages.now)
    trainer.callback_handler.callbacks.insert(0, stages)
    trainer.train()
    assert [line["stage"] for line in _lines(tmp_path)] == [1, 1, 2, 2]


def test_a_resumed_run_measures_from_its_true_start(tmp_path: Path) -> None:
    _trainer(tmp_path / "whole").train()
    _trainer(tmp_path / "part", save_strategy="steps", save_steps=2).train()
    again = _trainer(tmp_path / "again")
    again.train(resume_from_checkpoint=str(tmp_path / "part" / "checkpoints" / "checkpoint-2"))
    whole, resumed = _lines(tmp_path / "whole")[-1], _lines(tmp_path / "again")[-1]
    assert resumed["step"] == whole["step"]
    assert resumed["weight_change_by_tower"] == pytest.approx(
        whole["weight_change_by_tower"], rel=1e-5
    )


@pytest.mark.parametrize("is_filtered", [True, False])
def test_the_trainer_alone_hides_a_loss_that_is_nan(tmp_path: Path, is_filtered: bool) -> None:
    from sightline.config import TrainingConfig
    from sightline.training.arguments import training_arguments

    class Plain(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kw: Any
        ) -> Any:
            loss = (model(**inputs) - inputs["wanted"]).square().mean()
            return loss * torch.nan if self.state.global_step == 2 else loss

    arguments = training_arguments(
        TrainingConfig(max_steps=4, gradient_accumulation=1, gradient_checkpointing=False),
        directory=tmp_path,
        bf16=False,
        evaluates=False,
    )
    assert arguments.logging_nan_inf_filter is False
    arguments.logging_nan_inf_filter = is_filtered
    tracker = Recorder()
    trainer = Plain(
        model=Towers(),
        args=arguments,
        train_dataset=_samples(),  # type: ignore[arg-type]
        callbacks=[tracker],
    )
    trainer.train()
    third = next(logs["loss"] for logs in tracker.told[2:])
    assert math.isnan(third) is not is_filtered


def test_counting_leaves_out_padding_and_pauses() -> None:
    now = [0.0]
    throughput = Throughput(lambda: now[0])
    batch = {key: torch.stack([row[key] for row in _samples(2)]) for key in _samples(1)[0]}
    throughput.saw(batch)
    now[0] = 2.0
    throughput.step_ended()
    now[0] = 100.0  # an evaluation
    throughput.paused()
    del batch["image_grid_thw"]
    batch["labels"] = torch.full((2, 5), -100)
    throughput.saw(batch)
    now[0] = 101.0
    throughput.step_ended()
    assert throughput.take() == {
        "tokens_per_second": 16 / 3,
        "images_per_second": 2 / 3,
        "supervised_tokens": 0,
        "media": 0,
    }


def test_lines_are_strict_json(tmp_path: Path) -> None:
    _trainer(tmp_path, max_steps=1).train()
    text = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["step"] == 1
