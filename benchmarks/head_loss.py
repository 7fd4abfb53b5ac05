"""Head and loss: of supervised tokens in chunks, against transformers' own loss of all tokens.

``python benchmarks/head_loss.py [--parts step,ways,lengths] [--rounds N]``: a random Qwen2.5-VL of
107 million parameters (8 language and 4 vision layers of width 512, vocabulary 151,936, tied), four
rows of 512 tokens with a picture of 96 in each, float32, on the CPU. A step is forward, backward
and AdamW.

- step: 15 % and 73 % of the tokens supervised, LoRA on the language model and all weights, with
  activations computed again in the backward pass (gradient checkpointing) and with all kept. The
  same model computes both in turns in one process; the ratio is the median of those of single
  turns, in seconds of the processor, which other load changes less. Memory is the peak of one step
  over what is resting before it (weights, moments of AdamW), each in a process of its own.
- ways: head and loss alone, forward and backward, by every way that runs here.
- lengths: the same with chunks of other lengths than the chosen one.

glibc is told to give freed memory back, as in tuning_memory.py. Ends with 1 where, at 15 %, a step
is not at least 2 times as fast, or does not need at most a fifth of the memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
import transformers
from torch import nn
from transformers import AutoModelForImageTextToText

from sightline.config import TOWER_NAMES, TrainingConfig, TuningConfig
from sightline.model import Supervised, make_tiny_model, open_checkpoint, return_losses
from sightline.model.head_loss import head_loss
from sightline.model.head_loss.chunked import chunk_length, linear_loss
from sightline.training.checkpointing import checkpoint_activations
from sightline.training.loss import supervised_tokens
from sightline.tuning import apply_plan, resolve_plan

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "262144",
    "MALLOC_ARENA_MAX": "1",
}
MIB = 2**20
VOCABULARY, WIDTH = 151_936, 512
ROWS, TOKENS = 4, 512
# A picture of 224 x 336 pixels: 16 x 24 patches, merged by four.
GRID = (1, 16, 24)
WAYS = ("checkpointed", "all kept")
"""Whether activations are computed again in the backward pass."""
PLANS: dict[str, dict[str, Any]] = {"LoRA": {}, "full": dict.fromkeys(TOWER_NAMES, "full")}
SHARES = (0.15, 0.73)
LOSSES = ("transformers", "Sightline")
FASTER, LEANER = 2, 5


def make_model(folder: Path) -> Any:
    """A checkpoint without weights of the size that is measured, opened."""
    make_tiny_model("qwen2_5_vl", folder, tied=True)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    text.update(
        hidden_size=WIDTH,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=3 * WIDTH,
        vocab_size=VOCABULARY,
        head_dim=64,
        # Of the tiny model it is so large that attention ends in denormal numbers, which are slow.
        initializer_range=0.02,
    )
    text.pop("layer_types", None)
    text["rope_parameters"]["mrope_section"] = [8, 12, 12]
    vision.update(
        hidden_size=WIDTH,
        num_heads=8,
        depth=4,
        intermediate_size=3 * WIDTH,
        out_hidden_size=WIDTH,
        fullatt_block_indexes=[3],
        initializer_range=0.02,
    )
    config["initializer_range"] = 0.02
    (folder / "config.json").write_text(json.dumps(config))
    return open_checkpoint(str(folder))


class Bench:
    """A model that trains, and a batch.

    Args:
        folder: Where the checkpoint is made.
        plan: Name of a plan.
        share: Share of tokens that are supervised.
        way: Of `WAYS`.
    """

    def __init__(self, folder: Path, plan: str, share: float, way: str) -> None:
        torch.manual_seed(0)
        checkpoint = make_model(folder)
        model: Any = AutoModelForImageTextToText.from_config(checkpoint.config, dtype=torch.float32)
        self.num_parameters = sum(one.numel() for one in model.parameters())
        tuning = TuningConfig.model_validate(PLANS[plan])
        resolved = resolve_plan(model, checkpoint.family, tuning, TrainingConfig())
        self.model: Any = apply_plan(return_losses(model), resolved).train()
        if way == "checkpointed":
            checkpoint_activations(self.model)
        training = [one for one in self.model.parameters() if one.requires_grad]
        # As the Trainer does: otherwise AdamW holds copies of its largest weight while it steps.
        self.optimizer = torch.optim.AdamW(training, lr=1e-5, fused=True)
        self.batch, self.labels = _batch(checkpoint.config, share)

    def loss(self, kind: str) -> torch.Tensor:
        """The mean over supervised tokens."""
        if kind == "transformers":
            return self.model(**self.batch, labels=self.labels, use_cache=False).loss
        found: Supervised = supervised_tokens(self.labels)
        return self.model(**self.batch, supervised=found) / len(found.targets)

    def step(self, kind: str) -> float:
        """One step; its loss."""
        loss = self.loss(kind)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def _batch(config: Any, share: float) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    num_patches = GRID[0] * GRID[1] * GRID[2]
    ids = torch.randint(1000, VOCABULARY - 1000, (ROWS, TOKENS))
    ids[:, 4 : 4 + num_patches // 4] = config.image_token_id
    labels = torch.full_like(ids, -100)
    num_supervised = round(share * TOKENS)
    labels[:, -num_supervised:] = ids[:, -num_supervised:]
    width = 3 * 2 * config.vision_config.patch_size**2
    batch = {
        "input_ids": ids,
        "position_ids": torch.arange(TOKENS).expand(4, ROWS, TOKENS),
        "pixel_values": torch.randn(ROWS * num_patches, width),
        "image_grid_thw": torch.tensor([GRID] * ROWS),
    }
    return batch, labels


def times(folder: Path, plan: str, share: float, way: str, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of steps, in turns."""
    bench = Bench(folder, plan, share, way)
    # Both before anything moves.
    first, second = (float(bench.loss(kind).detach()) for kind in LOSSES)
    assert abs(first - second) < 1e-5 * first, (first, second)
    bench.step("Sightline")
    return in_turns({kind: partial(bench.step, kind) for kind in LOSSES}, rounds)


def memory(folder: Path, plan: str, share: float, way: str, kind: str) -> int:
    """Peak of one step over what rests before it, bytes."""
    bench = Bench(folder, plan, share, way)
    # The moments of AdamW are made, and what libraries hold on to.
    bench.step(kind)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    bench.step(kind)
    return _status("VmHWM") - before


def in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each, one after the other, so many times."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            found[name].append(time.process_time() - begin)
    return found


def ratio(found: dict[str, list[float]], one: str, other: str) -> float:
    """Median over turns of the time of one by that of the other."""
    return median(a / b for a, b in zip(found[one], found[other], strict=True))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def child(*arguments: object) -> Any:
    """One measurement in a process of its own."""
    made = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        env={**os.environ, **MALLOC},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise SystemExit(f"{arguments}: {made.stderr[-2000:]}")
    return json.loads(made.stdout.splitlines()[-1])


def measured(arguments: list[str]) -> Any:
    """What a child is asked for."""
    what, *rest = arguments
    with tempfile.TemporaryDirectory() as work:
        plan, share, way, last = rest
        if what == "times":
            return times(Path(work) / "model", plan, float(share), way, int(last))
        return memory(Path(work) / "model", plan, float(share), way, last)


def step_table(rounds: int) -> bool:
    """Print what a step costs; whether it is as fast and as lean as it should be."""
    print(f"{'a step':28}{'seconds':>23}{'':9}{'MiB over resting':>22}")
    print(f"{'':28}{LOSSES[0]:>13}{LOSSES[1]:>10}  ratio{LOSSES[0]:>13}{LOSSES[1]:>10}  ratio")
    holds = True
    for plan, share, way in itertools.product(PLANS, SHARES, WAYS):
        found = child("times", plan, share, way, rounds)
        sizes = {kind: child("memory", plan, share, way, kind) for kind in LOSSES}
        faster, leaner = ratio(found, *LOSSES), sizes[LOSSES[0]] / sizes[LOSSES[1]]
        seconds = "".join(
            f"{median(found[kind]):{width}.2f}"
            for kind, width in zip(LOSSES, (13, 10), strict=True)
        )
        memories = "".join(
            f"{sizes[kind] / MIB:{width}.0f}" for kind, width in zip(LOSSES, (13, 10), strict=True)
        )
        label = f"{plan}, {share:.0%}, {way}"
        print(f"{label:28}{seconds}{faster:6.1f}x{memories}{leaner:6.1f}x", flush=True)
        if share == SHARES[0]:
            holds = holds and faster >= FASTER and leaner >= LEANER
    return holds


class Alone:
    """A head, and what it is given.

    Args:
        num_tokens: Supervised tokens.
        width: Width of the head's input.
        trains: Whether its weight does.
        dtype: Of everything.
    """

    def __init__(self, num_tokens: int, width: int, trains: bool, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.head = nn.Linear(width, VOCABULARY, bias=False, dtype=dtype).requires_grad_(trains)
        self.hidden = torch.randn(num_tokens, width, dtype=dtype, requires_grad=True)
        self.targets = torch.randint(0, VOCABULARY, (num_tokens,))

    def way(self, kind: str) -> None:
        """Forward and backward, by a way, or with all logits at once."""
        if kind == "all logits":
            logits = self.head(self.hidden).float()
            loss = nn.functional.cross_entropy(logits, self.targets, reduction="sum")
        else:
            loss = head_loss(self.head, self.hidden, self.targets, kind=kind)  # type: ignore[arg-type]
        self._back(loss)

    def length(self, length: int) -> None:
        """Forward and backward, in chunks of a length."""
        self._back(linear_loss(self.hidden, self.head.weight, None, self.targets, length=length))

    def _back(self, loss: torch.Tensor) -> None:
        (loss / len(self.targets)).backward()
        self.head.weight.grad = self.hidden.grad = None


def ways_table(rounds: int) -> None:
    """Print head and loss alone by way."""
    print(
        f"\n{'head and loss alone, seconds':36}{'all logits':>12}{'chunked':>9}{'torch':>8}", end=""
    )
    print("  all / chunked  torch / chunked")
    for width, num_tokens, dtype in (
        (512, 307, torch.float32),
        (512, 1495, torch.float32),
        (2048, 307, torch.float32),
        (2048, 307, torch.bfloat16),
    ):
        for trains in (False, True):
            alone = Alone(num_tokens, width, trains, dtype)
            kinds = ["all logits", "chunked"]
            if dtype == torch.float32 and hasattr(nn.functional, "linear_cross_entropy"):
                kinds.append("torch")
            alone.way("chunked")
            found = in_turns({kind: partial(alone.way, kind) for kind in kinds}, rounds)
            name = "bf16" if dtype == torch.bfloat16 else "fp32"
            state = "trains" if trains else "frozen"
            label = f"{width} wide, {num_tokens} tokens, {name}, {state}"
            seconds = "".join(
                f"{median(found[kind]):{wide}.2f}" if kind in found else f"{'-':>{wide}}"
                for kind, wide in (("all logits", 12), ("chunked", 9), ("torch", 8))
            )
            ratios = f"{ratio(found, 'all logits', 'chunked'):14.2f}x"
            if "torch" in found:
                ratios += f"{ratio(found, 'torch', 'chunked'):16.2f}x"
            print(f"{label:36}{seconds}{ratios}", flush=True)


def lengths_table(rounds: int) -> None:
    """Print head and loss alone by length of a chunk, over the chosen one."""
    lengths = (55, 110, 220, 441, 882)
    heads = "".join(f"{length:>8}" for length in lengths)
    print(f"\n{'882 tokens in chunks of':36}{heads}  (1.00: the chosen length)")
    for width, trains in ((512, False), (512, True), (1536, True)):
        alone = Alone(882, width, trains, torch.float32)
        chosen = chunk_length(882, VOCABULARY, width)
        calls = {
            str(length): partial(alone.length, length) for length in sorted({*lengths, chosen})
        }
        alone.length(chosen)
        found = in_turns(calls, rounds)
        row = "".join(f"{ratio(found, str(length), str(chosen)):8.2f}" for length in lengths)
        label = f"{width} wide, {'trains' if trains else 'frozen'}, chosen: {chosen}"
        print(f"{label:36}{row}", flush=True)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="step,ways,lengths", help="Names with commas between.")
    parser.add_argument("--rounds", type=int, default=5, help="Turns that are measured.")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child)))
        return
    parts = given.parts.split(",")
    threads = torch.get_num_threads()
    print(f"{platform.machine()}, {threads} threads, {platform.system()}; ", end="")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    holds = step_table(given.rounds) if "step" in parts else True
    if "ways" in parts:
        ways_table(given.rounds)
    if "lengths" in parts:
        lengths_table(given.rounds)
    if not holds:
        sys.exit(
            f"at {SHARES[0]:.0%}: not {FASTER} times as fast, or over 1/{LEANER} of the memory"
        )


if __name__ == "__main__":
    main()
