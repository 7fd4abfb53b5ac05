"""Memory of training: what `sightline check` predicts, against the peak of a real run.

``python benchmarks/tuning_memory.py [--plans NAMES] [--packing on|off]``: ten plans on random
models of the real classes, about 100 million parameters, on the CPU in fp32, packed and padded.
Pictures and conversations are made on the spot. Each plan trains in a process of its own: two steps
of the run's own trainer and plan of steps, with a seed whose second step has the micro-batch that
costs most. Its peak is VmHWM over the resident memory before there are weights. glibc is told to
give freed memory back (MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ of 256 KiB, one arena):
otherwise the peak would be that of its habits. With a GPU, torch.cuda.max_memory_allocated is
compared too. Ends with 1 where a prediction is off by more than 10 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, PrinterCallback
from transformers.trainer_utils import IntervalStrategy

from sightline.config import TOWER_NAMES, RunConfig, TuningConfig
from sightline.data import Collator
from sightline.data.batches import StepPlan, sizes_of
from sightline.model import (
    Checkpoint,
    attend_by_segments,
    make_tiny_model,
    open_checkpoint,
    skeleton,
    take_raw_pixels,
)
from sightline.preparation import PreparedData, prepare_data
from sightline.preparation.costs import cost_rates
from sightline.preparation.estimate import estimate, find_device
from sightline.training.arguments import training_arguments
from sightline.training.loading import plan_model
from sightline.training.loss import model_loss
from sightline.training.pixels import make_pixels
from sightline.training.steps import TrainingData, shape_of
from sightline.training.trainer import SightlineTrainer
from sightline.tuning import TuningPlan, resolve_plan

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "262144",
    "MALLOC_ARENA_MAX": "1",
}
TOLERANCE = 0.1
_SEEDS = 100
WORDS = ("red", "square", "blue", "circle")
MIB = 2**20
HIDDEN, HEADS, LAYERS, DEPTH, VOCABULARY = 512, 8, 8, 6, 32_768
EVERYTHING: dict[str, Any] = dict.fromkeys(TOWER_NAMES, "full")
FROZEN: dict[str, Any] = dict.fromkeys(("vision", "projector", "language"), "freeze")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One row of the table.

    Attributes:
        family: Family of the model.
        rows: Name of its data.
        tuning: Section of the configuration.
        training: Section of the configuration, beside what all have.
        tied: Whether head and token embedding are one weight.
    """

    family: str
    rows: str = "pictures"
    tuning: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    tied: bool = False


UNCHECKED = {"gradient_checkpointing": False}
PLANS = {
    "lora, two passes, checkpointing": Plan(
        family="qwen2_5_vl", training={"gradient_accumulation": 2}
    ),
    "lora, batch of 4": Plan(family="qwen3_vl", training={"batch_size": 4, **UNCHECKED}),
    "everything full, checkpointing": Plan(family="qwen2_5_vl", tuning=EVERYTHING),
    "everything full": Plan(family="qwen3_vl", tuning=EVERYTHING, training=UNCHECKED),
    "vision lora alone": Plan(
        family="qwen3_vl", tuning={**FROZEN, "vision": "lora"}, training=UNCHECKED
    ),
    "projector alone, by tokens, checkpointing": Plan(
        family="qwen2_5_vl",
        tuning={**FROZEN, "projector": "full"},
        training={"tokens_per_step": 2400, "tokens_per_row": 1200},
    ),
    "tied, language full, two passes": Plan(
        family="qwen3_vl",
        tied=True,
        training={"gradient_accumulation": 2},
        tuning={"language": "full", "embeddings": "full", "head": "full"},
    ),
    "dora everywhere": Plan(
        family="qwen2_5_vl",
        tuning={
            "vision": "lora",
            "projector": "lora",
            "language": "lora",
            "lora": {"dora": True},
        },
        training=UNCHECKED,
    ),
    "long text, upper half full": Plan(
        family="qwen2_5_vl",
        rows="text",
        tuning={"language": {"mode": "freeze", "parts": [{"blocks": "4-", "mode": "full"}]}},
        training=UNCHECKED,
    ),
    "many pictures, vision full, checkpointing": Plan(
        family="qwen2_5_vl", rows="many", tuning={"vision": "full"}, training={"batch_size": 1}
    ),
}


def make_checkpoint(folder: Path, family: str, *, tied: bool) -> Path:
    """A checkpoint without weights: the tiny model's processor, a larger configuration."""
    if folder.is_dir():
        return folder
    make_tiny_model(family, folder, tied=tied)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    text.update(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 4,
        intermediate_size=3 * HIDDEN,
        vocab_size=VOCABULARY,
        head_dim=HIDDEN // HEADS,
    )
    text.pop("layer_types", None)
    text["rope_parameters"]["mrope_section"] = [8, 12, 12]
    vision.update(
        hidden_size=HIDDEN,
        num_heads=HEADS,
        depth=DEPTH,
        intermediate_size=3 * HIDDEN,
        out_hidden_size=HIDDEN,
    )
    if "fullatt_block_indexes" in vision:
        vision["fullatt_block_indexes"] = [2, 5]
    if "deepstack_visual_indexes" in vision:
        vision["deepstack_visual_indexes"] = [1, 4]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def make_rows(folder: Path) -> None:
    """Rows with one picture, with many, and without, as JSONL with messages."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    sizes = [(448, 672), (392, 504), (560, 448), (336, 448)]
    for number, (height, width) in enumerate(sizes):
        levels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"{number}.jpg")
    pictures = [_row([f"{n}.jpg"], words=40 + 30 * n) for n in range(len(sizes))]
    many = [_row([f"{n % 4}.jpg" for n in range(4)], words=60) for _ in range(2)]
    text = [_row([], words=words) for words in (600, 200, 300, 100)]
    for name, rows in {"pictures": pictures, "many": many, "text": text}.items():
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)


def _row(images: list[str], *, words: int) -> dict[str, Any]:
    question = "<image>" * len(images) + "describe the shapes"
    answer = " ".join(WORDS[n % 4] for n in range(words))
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": images}


def run_config(work: Path, name: str, packing: str) -> RunConfig:
    """The configuration of a plan."""
    plan = PLANS[name]
    folder = work / f"{plan.family}{'-tied' * plan.tied}"
    model = make_checkpoint(folder, plan.family, tied=plan.tied)
    training = {"max_steps": 2, "precision": "fp32", "packing": packing} | plan.training
    if "tokens_per_step" not in training:
        training = {"batch_size": 2, "gradient_accumulation": 1} | training
    return RunConfig.model_validate(
        {
            "model": str(model),
            "data": {"train": str(work / "rows" / f"{plan.rows}.jsonl")},
            "tuning": plan.tuning,
            "training": training,
            "output": str(work / "run"),
        }
    )


def with_costliest(
    config: RunConfig, checkpoint: Checkpoint, data: PreparedData, indices: list[int]
) -> RunConfig:
    """The same with a seed whose second step has the micro-batch that costs most.

    In the first the optimizer has no moments yet.
    """
    for seed in range(_SEEDS):
        training = config.training.model_copy(update={"seed": seed})
        tried = config.model_copy(update={"training": training})
        plan = resolve_plan(skeleton(checkpoint), checkpoint.family, tried.tuning, training)
        steps = plan_steps(tried, checkpoint, data, plan)
        second = steps.step(*divmod(1, steps.num_steps))
        if any(sorted(batch.samples) == indices for slot in second.slots for batch in slot):
            return tried
    raise SystemExit(f"no second step of {_SEEDS} has the micro-batch {indices}")


def plan_steps(
    config: RunConfig, checkpoint: Checkpoint, data: PreparedData, plan: TuningPlan
) -> StepPlan:
    """The steps of a run, as the run plans them."""
    training, is_packed = config.training, config.training.packing == "on"
    rates = cost_rates(
        checkpoint, plan, packed=is_packed, checkpointing=training.gradient_checkpointing
    )
    shape = shape_of(training, packed=is_packed, num_ranks=1)
    return StepPlan(sizes_of(data.train.samples, rates), shape)


def prepared(config: RunConfig) -> tuple[Any, PreparedData]:
    """Checkpoint and data of a plan."""
    checkpoint = open_checkpoint(config.model, config.data)
    return checkpoint, prepare_data(config, checkpoint)


def measure(work: Path, name: str, packing: str) -> dict[str, Any]:
    """Train two steps; the peak over what was there before weights, bytes."""
    config = run_config(work, name, packing)
    checkpoint, data = prepared(config)
    indices = json.loads((work / "batch.json").read_text())
    config = with_costliest(config, checkpoint, data, indices)
    # Everything is imported and every library has made its buffers when counting begins.
    small = work / f"small-{config.model.rpartition('/')[2]}"
    if not small.is_dir():
        make_tiny_model(checkpoint.family.key, small)
    plain = config.model_copy(update={"tuning": TuningConfig()})
    train(plain, open_checkpoint(str(small), config.data), data, work)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    train(config, checkpoint, data, work)
    found = {"cpu": _status("VmHWM") - before}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.max_memory_allocated()
    return found


def train(config: RunConfig, checkpoint: Checkpoint, data: PreparedData, work: Path) -> None:
    """Two steps of the run's own trainer, in the run's own plan, from random weights."""
    torch.manual_seed(0)
    training, is_packed = config.training, config.training.packing == "on"
    own = replace(checkpoint, config=deepcopy(checkpoint.config))
    model: Any = AutoModelForImageTextToText.from_config(own.config, dtype=torch.float32)
    attend_by_segments(model, checkpoint.family)
    assert checkpoint.recipes is not None
    take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
    plan = resolve_plan(skeleton(checkpoint), checkpoint.family, config.tuning, training)
    model = plan_model(model, checkpoint, plan, training)
    arguments = training_arguments(training, directory=work / "run", bf16=False, evaluates=False)
    arguments.save_strategy = IntervalStrategy.NO
    steps = plan_steps(config, checkpoint, data, plan)
    trainer = SightlineTrainer(
        model=model,
        plan=plan,
        args=arguments,
        data=TrainingData(samples=data.train.samples, steps=steps),
        collator=Collator(
            pixels=make_pixels(config.data, checkpoint),
            rule=checkpoint.position_rule,
            pad_token_id=0,
            packs=is_packed,
        ),
        callbacks=[],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def compare(work: Path, name: str, packing: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan predicted here, and measured in a process of its own."""
    config = run_config(work, name, packing)
    checkpoint, data = prepared(config)
    predicted = estimate(config, checkpoint, data, model_loss, find_device(None))
    (work / "batch.json").write_text(json.dumps(predicted["batch"]["indices"]))
    child = subprocess.run(
        [sys.executable, __file__, "--measure", name, "--packing", packing, "--work", str(work)],
        env={**os.environ, **MALLOC},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise SystemExit(f"{name}: {child.stderr}")
    return predicted, json.loads(child.stdout.splitlines()[-1])


def main() -> None:
    """Predict and measure, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plans", help="Names with semicolons between; all without it.")
    parser.add_argument("--packing", choices=("on", "off"), help="Both without it.")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.work, given.measure, given.packing)))
        return
    chosen = given.plans.split(";") if given.plans else list(PLANS)
    packings = [given.packing] if given.packing else ["on", "off"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_rows(work / "rows")
        _print_head()
        within = [report(work, name, packing) for packing in packings for name in chosen]
    print(f"{sum(within)} of {len(within)} within {TOLERANCE:.0%}")
    sys.exit(not all(within))


def _print_head() -> None:
    threads = torch.get_num_threads()
    print(f"{platform.machine()}, {threads} threads, {platform.system()}; ", end="")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    settings = ", ".join(f"{name}={value}" for name, value in MALLOC.items())
    print(f"{settings}; MiB\n")
    names = ("weights", "optim.", "grads", "activ.", "logits", "trans.")
    heads = " ".join(f"{name:>7}" for name in names)
    print(f"{'':49}{heads} predicted measured  ratio")


def report(work: Path, name: str, packing: str) -> bool:
    """One row of the table; whether the prediction is near enough."""
    predicted, measured = compare(work, name, packing)
    kind = "gpu" if "gpu" in measured else "cpu"
    ratio = predicted["peak_bytes"] / measured[kind]
    parts = " ".join(f"{size / MIB:7.0f}" for size in predicted["parts"].values())
    laid = "packed" if packing == "on" else "padded"
    print(
        f"{name:42}{laid:7}{parts} {predicted['peak_bytes'] / MIB:9.0f} "
        f"{measured[kind] / MIB:8.0f} {ratio:6.2f}",
        flush=True,
    )
    return abs(ratio - 1) <= TOLERANCE


if __name__ == "__main__":
    main()
