"""What tuning costs: the map of large models, the proof of a plan, and a frozen vision tower.

``python benchmarks/tuning.py [--no-memory]``: first the map (tuning_map.py). Then, on a random
model of the real Qwen2.5-VL classes and one picture of 336 x 448 pixels, each in a process of its
own and in turns:

- the proof before a run, over one optimizer step of the same batch;
- LoRA on the language model with vision frozen, against the two ways in which it is often frozen:
  PEFT with gradient checkpointing as transformers and PEFT set it up (they make the output of the
  patch embedding require a gradient, so the backward pass runs through the frozen tower), and a
  tower that is only left out of the optimizer.

Last, predicted against measured memory (tuning_memory.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText
from tuning_memory import MALLOC, make_checkpoint, make_rows

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, ProcessorPixels, read_source
from sightline.model import follow_engine, open_checkpoint, return_losses
from sightline.preparation import make_encoder
from sightline.training.checkpointing import checkpoint_activations
from sightline.training.loss import model_loss
from sightline.training.proof import prove_gradients
from sightline.tuning import TuningPlan, apply_plan, resolve_plan

ROUNDS, WARM, STEPS = 3, 1, 2
HERE = Path(__file__).parent
FROZEN = {
    "checkpointing": ("sightline", "peft recipe"),
    "no checkpointing": ("sightline", "left out of the optimizer"),
}
LANGUAGE_LINEARS = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"


class Bench:
    """A model under a plan, and a batch of one picture."""

    def __init__(self, work: Path) -> None:
        torch.manual_seed(0)
        folder = make_checkpoint(work / "qwen2_5_vl", "qwen2_5_vl", tied=False)
        self.checkpoint = open_checkpoint(str(folder))
        encoder = make_encoder(self.checkpoint)
        rows = read_source(Source(path=str(work / "rows" / "pictures.jsonl")))
        # The smallest of the four pictures: a step takes seconds on one core.
        self.samples = [encoder.encode(row) for row in rows][3:]
        pixels = ProcessorPixels(self.checkpoint.processor)
        collate: Any = Collator(pixels=pixels, rule=self.checkpoint.position_rule, pad_token_id=0)
        self.batch = collate(self.samples)
        plain = AutoModelForImageTextToText.from_config(self.checkpoint.config, dtype=torch.float32)
        self.plain: Any = return_losses(follow_engine(plain, self.checkpoint.position_rule))

    def plan(self, **tuning: Any) -> TuningPlan:
        """The plan of a configuration's section."""
        config = TuningConfig.model_validate(tuning)
        return resolve_plan(self.plain, self.checkpoint.family, config, TrainingConfig())

    def frozen(self, how: str, *, checkpointing: bool) -> Any:
        """The model with LoRA on its language model, vision and projector frozen somehow."""
        if how == "sightline":
            model = apply_plan(self.plain, self.plan(projector="freeze"))
            if checkpointing:
                checkpoint_activations(model)
            return model
        if checkpointing:
            self.plain.gradient_checkpointing_enable({"use_reentrant": False})
        model = get_peft_model(
            self.plain, LoraConfig(r=16, lora_alpha=32, target_modules=LANGUAGE_LINEARS)
        )
        if how == "left out of the optimizer":
            for name, parameter in model.named_parameters():
                if ".visual." in name:
                    parameter.requires_grad_(True)
        return model

    def stepper(self, model: Any) -> Callable[[], None]:
        """One optimizer step; LoRA's factors and full weights that train are in the optimizer."""
        inside = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" in n]
        optimizer = torch.optim.AdamW(inside, lr=1e-4)
        model.train()

        def step() -> None:
            loss, _ = model_loss(model, dict(self.batch), None)
            loss.backward()
            optimizer.step()
            model.zero_grad(set_to_none=True)

        return step


def child(work: Path, part: str, how: str) -> dict[str, float]:
    """One measurement, in this process: seconds of a step, and peak memory over the model's."""
    bench = Bench(work)
    if part == "proof":
        plan = bench.plan()
        model = apply_plan(bench.plain, plan)
        checkpoint_activations(model)
        step = bench.stepper(model)
        seconds = _times(step)
        begin = time.perf_counter()
        family = bench.checkpoint.family
        proof = prove_gradients(model, plan, family, bench.samples, [bench.batch], nullcontext())
        assert proof.holds, proof.message()
        return {"seconds": seconds, "proof": time.perf_counter() - begin}
    model = bench.frozen(how, checkpointing=part == "checkpointing")
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    seconds = _times(bench.stepper(model))
    return {"seconds": seconds, "bytes": _status("VmHWM") - before}


def _times(step: Callable[[], None]) -> float:
    taken = []
    for _ in range(WARM + STEPS):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return median(taken[WARM:])


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measured(work: Path, part: str, how: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", part, how, "--work", str(work)]
    made = subprocess.run(
        command, env={**os.environ, **MALLOC}, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SystemExit(f"{part}, {how}: {made.stderr[-2000:]}")
    return json.loads(made.stdout.splitlines()[-1])


def frozen_table(work: Path) -> None:
    """Print step time and memory of every way to freeze vision."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for part, ways in FROZEN.items():
            for how in ways:
                found.setdefault((part, how), []).append(measured(work, part, how))
    print("\nLoRA on the language model, vision frozen: seconds a step, memory over the weights")
    for part, ways in FROZEN.items():
        own = [median(one[key] for one in found[part, ways[0]]) for key in ("seconds", "bytes")]
        for how in ways:
            seconds, size = (
                median(one[key] for one in found[part, how]) for key in ("seconds", "bytes")
            )
            print(
                f"  {part:<18}{how:<28}{seconds:>7.2f} s{size / 2**20:>7.0f} MiB"
                f"{seconds / own[0]:>8.2f}x{size / own[1]:>7.2f}x"
            )


def proof_table(work: Path) -> None:
    """Print what the proof costs."""
    turns = [measured(work, "proof", "-") for _ in range(ROUNDS)]
    step, proof = (median(one[key] for one in turns) for key in ("seconds", "proof"))
    print(f"\nThe proof of a plan: {proof:.2f} s, a step of the same batch {step:.2f} s", end="")
    print(f"; {proof / step:.2f} steps")
    assert proof < 2 * step, "the proof costs more than two steps"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-memory", action="store_true", help="Leave tuning_memory.py out.")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.work, *given.child)))
        return
    subprocess.run([sys.executable, str(HERE / "tuning_map.py")], check=True)
    with tempfile.TemporaryDirectory() as folder:
        make_rows(Path(folder) / "rows")
        proof_table(Path(folder))
        frozen_table(Path(folder))
    if not given.no_memory:
        print("\nMemory, predicted and measured", flush=True)
        done = subprocess.run([sys.executable, str(HERE / "tuning_memory.py")], check=False)
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
