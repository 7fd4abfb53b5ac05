"""The map of the largest models: how long it takes, and how much memory, on a plain processor.

``sightline inspect model`` with a plan of three stages, on the published configurations of
Qwen2.5-VL-72B-Instruct and Qwen3-VL-235B-A22B-Instruct. No weight is made: the model is built on
the meta device, and PEFT puts the plan's adapters on it there. Every figure is of a process of its
own: "command" is the whole of ``sightline inspect model``, the start of Python and the import of
torch, transformers and PEFT included; the other columns are its parts, without them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

REPEATS = 3
MOST_SECONDS, MOST_BYTES = 10.0, 2e9
STEPS = ("imports", "build", "plan", "map")

# The numbers of the config.json published with each model; their weights add up to the sizes that
# the models are published with, 73.4 and 236 billion.
CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen2.5-VL-72B": {
        "model_type": "qwen2_5_vl",
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "text_config": {
            "num_hidden_layers": 80,
            "hidden_size": 8192,
            "intermediate_size": 29568,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3456,
            "out_hidden_size": 8192,
            "num_heads": 16,
            "patch_size": 14,
        },
    },
    "Qwen3-VL-235B-A22B": {
        "model_type": "qwen3_vl_moe",
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "text_config": {
            "num_hidden_layers": 94,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_attention_heads": 64,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 1536,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "vocab_size": 151936,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "out_hidden_size": 4096,
            "num_heads": 16,
            "patch_size": 16,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
}
PLAN = """\
model: tiny:qwen2_5_vl
data: {train: train.jsonl, eval: train.jsonl}
tuning:
  vision: lora
  stages:
    - {name: projector, until: 10%, vision: freeze, language: freeze}
    - name: upper layers
      until: plateau
      vision: freeze
      language: {parts: [{blocks: first 50%, mode: freeze}]}
    - {name: everything, learning_rate_factor: 0.3}
training: {precision: bf16}
output: run
"""


def run(arguments: list[str]) -> tuple[float, int, str]:
    """Seconds, peak resident bytes and output of a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), said


def parts(folder: str, plan: str) -> None:
    """Print the seconds of every step, in this process."""
    taken = [time.perf_counter()]
    from sightline.cli.console import quiet_libraries
    from sightline.config import load_config
    from sightline.model import open_architecture, skeleton
    from sightline.tuning import resolve_plan
    from sightline.tuning.map import map_model

    quiet_libraries()
    config = load_config(Path(plan), [])
    architecture = open_architecture(folder)
    taken.append(time.perf_counter())
    model = skeleton(architecture)
    taken.append(time.perf_counter())
    resolved = resolve_plan(model, architecture.family, config.tuning, config.training)
    taken.append(time.perf_counter())
    nodes = map_model(model, architecture.family, resolved)
    taken.append(time.perf_counter())
    steps = {name: taken[n + 1] - taken[n] for n, name in enumerate(STEPS)}
    weights = sum(node.num_parameters for node in nodes)
    trained = sum(node.num_trainable for node in nodes)
    print(json.dumps({**steps, "weights": weights, "trained": trained}))


def main() -> None:
    """Print one line a model."""
    print(f"{'':<20}{'weights':>9}{'trains':>9}{'command':>10}{'memory':>10}", end="")
    print("".join(f"{name:>10}" for name in STEPS))
    with TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(PLAN, encoding="utf-8")
        (Path(folder) / "train.jsonl").touch()
        for name, config in CONFIGS.items():
            model = Path(folder) / name
            model.mkdir()
            (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
            measure(name, model, plan)


def measure(name: str, model: Path, plan: Path) -> None:
    """Print the line of one model."""
    inspect = ["-m", "sightline", "inspect", "model", str(model), "--plan", str(plan), "--json"]
    whole = [run(inspect) for _ in range(REPEATS)]
    inside = [json.loads(run([__file__, str(model), str(plan)])[2]) for _ in range(REPEATS)]
    seconds, peak = median(one[0] for one in whole), max(one[1] for one in whole)
    assert json.loads(whole[0][2])["totals"]["num_parameters"] == inside[0]["weights"]
    print(
        f"{name:<20}{inside[0]['weights'] / 1e9:>7.1f} B{inside[0]['trained'] / 1e6:>7.0f} M"
        f"{seconds:>8.1f} s{peak / 1e9:>7.2f} GB"
        + "".join(f"{median(one[step] for one in inside):>8.2f} s" for step in STEPS)
    )
    assert seconds < MOST_SECONDS, f"{name}: {seconds:.1f} s, more than {MOST_SECONDS:.0f} s"
    assert peak < MOST_BYTES, f"{name}: {peak / 1e9:.2f} GB, more than {MOST_BYTES / 1e9:.0f} GB"


if __name__ == "__main__":
    parts(*sys.argv[1:]) if sys.argv[1:] else main()
