"""Training on a GPU: models of the shapes of Qwen2.5-VL-3B and -7B, random weights, bf16.

``python benchmarks/gpu.py [--sizes 3B 7B] [--methods lora full]``: tokens a second, memory and
utilisation of Sightline and of transformers' plain Trainer, on the same rows of lengths as they are
in the wild, in turns, each a process of its own. Sightline packs rows, attends through the
variable-length kernel that is there, and fetches bytes of patches, pinned, ahead of time; each of
these is also left out once, and torch.compile put in. Without a GPU nothing is measured, and this
says so. ``--tiny --device cpu`` runs the same code on tiny shapes, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, NoReturn

from training_lengths import count_tokens, make_rows, told_lengths
from training_tools import OFFLINE, end_with_children, run_command, sightline_config
from training_work import SIZES, Job, ModelSize, resize, with_real_ids

SHAPES = {
    "3B": ModelSize(
        hidden=2048,
        layers=36,
        heads=16,
        key_value_heads=2,
        intermediate=11_008,
        vision_hidden=1280,
        vision_intermediate=3420,
        depth=32,
        vision_heads=16,
        full_blocks=(7, 15, 23, 31),
        tied=True,
    ),
    "7B": ModelSize(
        hidden=3584,
        layers=28,
        heads=28,
        key_value_heads=4,
        intermediate=18_944,
        vision_hidden=1280,
        vision_intermediate=3420,
        depth=32,
        vision_heads=16,
        full_blocks=(7, 15, 23, 31),
        tied=False,
    ),
    "tiny": SIZES["small"],
}
ROW, BATCH, WORKERS = 8192, 8, 4
WARM = 2
# In the tiny run: lengths are those of the wild, divided by it.
TINY_SCALE = 10
KEYS = ("rate", "step", "peak")
# Name, the changes to the section training, the changes to the section data.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Sightline": ({}, {}),
    "padded": ({"packing": "off", "batch_size": BATCH}, {}),
    "processor's floats": ({}, {"preparation": "processor"}),
    "no workers": ({"num_workers": 0}, {}),
    "compiled": ({"compile": True}, {}),
}
PLAIN = "plain Trainer"
# Dense bf16 FLOP/s by a part of the device's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}


class Meter:
    """Times of the ends of steps, the tokens in them, and how busy the GPU was."""

    def __init__(self, *, cuda: bool) -> None:
        self._cuda = cuda
        self.ends: list[float] = []
        self.tokens: list[int] = []
        self._now = 0
        self._busy: list[float] = []
        self._stop = threading.Event()
        if cuda:
            threading.Thread(target=self._watch, daemon=True).start()

    def count(self, batch: dict[str, Any]) -> None:
        """Tokens of a micro-batch, padding left out."""
        mask = batch.get("attention_mask")
        self._now += int(mask.sum()) if mask is not None else batch["input_ids"].numel()

    def step_ended(self) -> None:
        """An optimizer step is done, on the GPU too."""
        if self._cuda:
            import torch

            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.tokens.append(self._now)
        self._now = 0
        if len(self.ends) == WARM:
            self._busy.clear()

    def record(self) -> dict[str, Any]:
        """Tokens a second and seconds a step after warming, peak memory, utilisation."""
        import torch

        self._stop.set()
        seconds = self.ends[-1] - self.ends[WARM - 1]
        steps = [after - before for before, after in pairwise(self.ends[WARM - 1 :])]
        peak = torch.cuda.max_memory_allocated() if self._cuda else 0
        return {
            "rate": sum(self.tokens[WARM:]) / seconds,
            "step": median(steps),
            "peak": peak,
            "busy": mean(self._busy) if self._busy else None,
        }

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.5):
            said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
            if said.strip():
                self._busy.append(float(said.split()[0]))


def make_shaped(folder: Path, name: str) -> Path:
    """A random checkpoint in bf16 of a released model's shape."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from sightline.model import make_tiny_model

    make_tiny_model("qwen2_5_vl", folder)
    with_real_ids(folder)
    resize(folder, SHAPES[name])
    config = AutoConfig.from_pretrained(folder)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def train_plain(given: dict[str, Any]) -> dict[str, Any]:
    """transformers' Trainer as a notebook has it: the processor's batches, the model's loss."""
    import torch
    from peft import LoraConfig, get_peft_model
    from training_loops import LANGUAGE_LINEARS, PlainBatches, read_rows
    from transformers import (
        AutoModelForImageTextToText,
        AutoProcessor,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.utils.import_utils import is_flash_attn_2_available

    cuda = torch.cuda.is_available()
    meter = Meter(cuda=cuda)

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step_ended()

    class Counting(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            meter.count(inputs)
            return super().compute_loss(model, inputs, *rest, **named)

    rows = read_rows(Path(given["data"]))
    numbers: Any = list(range(len(rows)))
    processor = AutoProcessor.from_pretrained(given["model"])
    attention = "flash_attention_2" if cuda and is_flash_attn_2_available() else "sdpa"
    model = AutoModelForImageTextToText.from_pretrained(
        given["model"], dtype=torch.bfloat16, attn_implementation=attention
    )
    model.model.visual.requires_grad_(False)
    if given["method"] == "lora":
        lora = LoraConfig(r=16, lora_alpha=32, target_modules=LANGUAGE_LINEARS)
        model = get_peft_model(model, lora)
        model.enable_input_require_grads()
    trainer = Counting(
        model=model,
        args=TrainingArguments(
            output_dir=given["output"],
            per_device_train_batch_size=BATCH,
            max_steps=given["steps"],
            learning_rate=1e-5,
            bf16=True,
            use_cpu=not cuda,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            dataloader_num_workers=given["workers"],
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            remove_unused_columns=False,
        ),
        train_dataset=numbers,
        data_collator=PlainBatches(rows, processor),
        callbacks=[Mark()],
    )
    trainer.train()
    return {**meter.record(), "attention": attention}


def train_sightline(given: dict[str, Any]) -> NoReturn:
    """A run of Sightline; ends this process with its last step."""
    import torch
    from transformers import TrainerCallback

    from sightline.config import RunConfig
    from sightline.training.observer import SilentObserver
    from sightline.training.run import train
    from sightline.training.trainer import SightlineTrainer

    meter = Meter(cuda=torch.cuda.is_available())

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step_ended()
            if len(meter.ends) == given["steps"]:
                # At once: exporting weights that nobody wants takes longer than the steps.
                print(json.dumps(meter.record()), flush=True)
                os._exit(0)

    class Observer(SilentObserver):
        def trainer_callbacks(self) -> list[Any]:
            return [Mark()]

    forward = SightlineTrainer._forward_and_back

    def counted(self: Any, model: Any, batch: Any, num_tokens: Any) -> Any:
        meter.count(batch)
        return forward(self, model, batch, num_tokens)

    SightlineTrainer._forward_and_back = counted
    train(RunConfig.model_validate(given["config"]), Observer())
    raise AssertionError("the run ended before its steps were done")


def config_of(given: argparse.Namespace, job: Job, method: str, variant: str) -> dict[str, Any]:
    """The run configuration of a variant."""
    training, data = VARIANTS[variant]
    row = ROW if not given.tiny else 512
    tokens = {"tokens_per_step": row, "tokens_per_row": row, "packing": "on"}
    shape = {} if "batch_size" in training else {**tokens, "batch_size": "unset"}
    accumulation = 1 if "batch_size" in training else "unset"
    config = sightline_config(
        job,
        job.work,
        **{
            **shape,
            "gradient_accumulation": accumulation,
            "gradient_checkpointing": True,
            "precision": "bf16",
            "num_workers": WORKERS if not given.tiny else 1,
            "max_steps": given.steps + 1,
            "learning_rate": 1e-5,
            **training,
        },
    )
    config["data"] |= data
    if method == "full":
        config["tuning"] = {"language": "full", "projector": "full", "vision": "freeze"}
        # Without LoRA there is no adapter to write instead. Neither is written here.
        config["export"] = {"merged": True}
    return config


def one(given: argparse.Namespace, job: Job, method: str, name: str) -> dict[str, Any]:
    """One measurement, in a process of its own; what went wrong where it failed."""
    told: dict[str, Any] = {
        "model": str(job.model),
        "data": str(job.data),
        "method": method,
        "steps": given.steps,
        "workers": WORKERS if not given.tiny else 1,
        "output": str(job.work / "run"),
    }
    if name != PLAIN:
        told["config"] = config_of(given, job, method, name)
    shutil.rmtree(job.work / "run", ignore_errors=True)
    path = job.work / "told.json"
    path.write_text(json.dumps(told))
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if given.device == "cpu" else {}
    command = [sys.executable, __file__, "--child", name, str(path)]
    try:
        ran = run_command(command, job.work / "said", environment={**OFFLINE, **hidden})
    except SystemExit as failed:
        text = str(failed)
        if "out of memory" not in text.lower():
            raise
        return {"failed": "out of memory"}
    made = json.loads(ran.output.splitlines()[-1])
    return {**made, "peak": made["peak"] or ran.peak}


def table(given: argparse.Namespace, work: Path, size: str) -> None:
    """Print what everyone reaches on one shape."""
    model, script = work / f"model-{size}", [sys.executable, __file__]
    if not model.is_dir():
        subprocess.run([*script, "--make", str(model), size], check=True, capture_output=True)
    scale, side = (TINY_SCALE, 56) if given.tiny else (1, 448)
    count = (given.steps + 4) * (16 if not given.tiny else 8)
    data = make_rows(work / "rows", model, count=count, scale=scale, side=side)
    totals, _ = count_tokens(data, model, side)
    job = Job(work=work, model=model, data=data, samples=count, epochs=4, rank=16)
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors")) / 2
    print(f"\n{size}: {weights / 1e9:.2f} G weights, {told_lengths(totals)}", flush=True)
    print("                                tokens/s    plain x   step s   peak GB  busy    MFU")
    for method in given.methods:
        base = None
        for name in (PLAIN, *VARIANTS):
            turns = [one(given, job, method, name) for _ in range(given.rounds)]
            if "failed" in turns[0]:
                print(f"{method:<6}{name:<24}{turns[0]['failed']}", flush=True)
                continue
            rate, step, peak = (median(turn[key] for turn in turns) for key in KEYS)
            base = base or rate
            print(
                f"{method:<6}{name:<24}{rate:>10.0f} {rate / base:>9.2f}x {step:>8.2f} "
                f"{peak / 1e9:>9.2f} {_busy(turns):>5} {_share(rate, weights, method):>6}",
                flush=True,
            )
        print()


def _busy(turns: list[dict[str, Any]]) -> str:
    known = [turn["busy"] for turn in turns if turn["busy"] is not None]
    return f"{median(known):.0f} %" if known else "-"


def _share(rate: float, weights: float, method: str) -> str:
    """Share of the peak: 2 FLOP a weight forward, 2 for activations back, 2 for weights' own.

    Attention, the vision tower's patches and what checkpointing computes twice are not counted.
    """
    peak = next((flops for part, flops in PEAKS.items() if part in _device()), None)
    flops = rate * weights * (6 if method == "full" else 4)
    return f"{100 * flops / peak:.0f} %" if peak else "-"


def _device() -> str:
    """Name of the GPU; empty where there is none. Without torch: this process stays small."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not shutil.which("nvidia-smi"):
        return ""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, check=False)
    return said.stdout.splitlines()[0] if said.returncode == 0 and said.stdout else ""


def main() -> None:
    """Print the tables."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=["3B", "7B"], default=["3B", "7B"])
    parser.add_argument("--methods", nargs="+", choices=["lora", "full"], default=["lora", "full"])
    parser.add_argument("--steps", type=int, default=10, help="of which two are not counted")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        make_shaped(Path(given.make[0]), given.make[1])
        return
    if given.child:
        name, path = given.child
        told = json.loads(Path(path).read_text())
        if name != PLAIN:
            train_sightline(told)
        print(json.dumps(train_plain(told)))
        return
    end_with_children()
    device = _device() if given.device == "cuda" else ""
    if given.device == "cuda" and not device:
        print("There is no GPU here: nothing was measured.")
        return
    print(device or "On the CPU: the code runs; these are no figures of a GPU, nor for one.")
    with tempfile.TemporaryDirectory() as folder:
        for size in ["tiny"] if given.tiny else given.sizes:
            table(given, Path(folder), size)


if __name__ == "__main__":
    main()
