"""What the benchmarks of training train: models, pictures and rows, made on the spot.

Two models of the real Qwen2.5-VL classes with the released models' vocabulary of 151,936, and its
control tokens under their own numbers: some tools have these numbers in their code. Pictures with
boxes are drawn by ``sightline shapes``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 151_936
FIRST_CONTROL_TOKEN = 151_643
CONTROL_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """Sizes of a model.

    Attributes:
        hidden: Width of the language model.
        layers: Its layers.
        heads: Its attention heads.
        key_value_heads: Those of keys and values.
        intermediate: Width of its MLP.
        vision_hidden: Width of the vision tower.
        vision_intermediate: Width of its MLP.
        depth: Its blocks.
        vision_heads: Its attention heads.
        full_blocks: Blocks that attend everywhere; the others attend in windows.
        tied: Whether head and token embedding are one weight.
    """

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vision_hidden: int
    vision_intermediate: int
    depth: int
    vision_heads: int
    full_blocks: tuple[int, ...]
    tied: bool


SIZES = {
    # The tiny model of the tests, with the real vocabulary: 20 million weights.
    "small": ModelSize(
        hidden=64,
        layers=3,
        heads=4,
        key_value_heads=2,
        intermediate=128,
        vision_hidden=64,
        vision_intermediate=128,
        depth=2,
        vision_heads=4,
        full_blocks=(1,),
        tied=False,
    ),
    # 107 million weights.
    "large": ModelSize(
        hidden=512,
        layers=8,
        heads=8,
        key_value_heads=4,
        intermediate=1376,
        vision_hidden=320,
        vision_intermediate=640,
        depth=4,
        vision_heads=5,
        full_blocks=(3,),
        tied=True,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One piece of training that every contender does.

    Attributes:
        work: Folder of everything that is made.
        model: Folder of the checkpoint.
        data: Folder of the rows: train.jsonl, dataset_info.json and images.
        samples: Rows.
        epochs: Passes over them.
        batch: Rows of a step.
        rank: Of LoRA, on all linear layers of the language model.
        rate: Learning rate, constant.
        max_pixels: Most pixels of a picture that the model sees.
        max_length: Most tokens of a sample.
    """

    work: Path
    model: Path
    data: Path
    samples: int
    epochs: int = 2
    batch: int = 4
    rank: int = 8
    rate: float = 1e-4
    max_pixels: int = 1_003_520
    max_length: int = 4096

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * (self.samples // self.batch)

    def record(self) -> dict[str, Any]:
        """What a contender in a process of its own is told."""
        return {
            "model": str(self.model),
            "data": str(self.data),
            "epochs": self.epochs,
            "batch": self.batch,
            "rank": self.rank,
            "rate": self.rate,
            "max_pixels": self.max_pixels,
            "max_length": self.max_length,
        }


class Outcome:
    """What was asked of a part and what came of it.

    Attributes:
        missed: How much of it was not reached.
    """

    def __init__(self) -> None:
        self.missed = 0

    def at_most(self, what: str, found: float, bar: float) -> None:
        """Print a figure that should not be larger than the bar."""
        self._tell(what, found, "at most", bar, found <= bar)

    def at_least(self, what: str, found: float, bar: float) -> None:
        """Print a figure that should not be smaller than the bar."""
        self._tell(what, found, "at least", bar, found >= bar)

    def _tell(self, what: str, found: float, sign: str, bar: float, reached: bool) -> None:
        self.missed += not reached
        verdict = "" if reached else ": MISSED"
        print(f"{what}: {found:.2f}, {sign} {bar:g}{verdict}", flush=True)


def draw_pictures(folder: Path, count: int, height: int, width: int, *options: str) -> Path:
    """Rows of one picture with boxes each, in the shape of ShareGPT.

    Args:
        folder: Where they are made.
        count: Pictures.
        height: Their height, pixels.
        width: Their width, pixels.
        *options: More of ``sightline shapes``.
    """
    size = ["--height", str(height), "--width", str(width), "--images", str(count)]
    command = [sys.executable, "-m", "sightline", "shapes", str(folder), *size]
    drawn = [*command, "--layout", "sharegpt", "--max-shapes", "6", *options]
    subprocess.run(drawn, check=True, stdout=subprocess.DEVNULL)
    return folder


def make_model(folder: Path, name: str, seed: int = 0) -> Path:
    """A random checkpoint of the size of that name. Imports torch, so call it in a process."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from sightline.model import make_tiny_model

    make_tiny_model("qwen2_5_vl", folder)
    with_real_ids(folder)
    resize(folder, SIZES[name])
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder


def with_real_ids(folder: Path) -> None:
    """Give control tokens their released numbers, and fill the vocabulary up to them.

    Texts are split as by the tiny tokenizer: into more tokens than a real one makes.
    """
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    learned = {text: number for text, number in vocabulary.items() if not text.startswith("<|")}
    first = min(token["id"] for token in tokenizer["added_tokens"])
    filler = {f"<{number}>": number for number in range(len(learned), FIRST_CONTROL_TOKEN)}
    moved = FIRST_CONTROL_TOKEN - first
    control = {text: number + moved for text, number in vocabulary.items() if text not in learned}
    tokenizer["model"]["vocab"] = {**learned, **filler, **control}
    for token in tokenizer["added_tokens"]:
        token["id"] += moved
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    _renumber(folder, {token["content"]: token["id"] for token in tokenizer["added_tokens"]})


def _renumber(folder: Path, ids: dict[str, int]) -> None:
    stops = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    config = json.loads((folder / "config.json").read_text())
    config |= {field: ids[text] for field, text in CONTROL_IDS.items()}
    config["text_config"] |= {"bos_token_id": stops[1], "eos_token_id": stops[0]}
    (folder / "config.json").write_text(json.dumps(config))
    generation = json.loads((folder / "generation_config.json").read_text())
    generation |= {"eos_token_id": stops, "pad_token_id": stops[1]}
    (folder / "generation_config.json").write_text(json.dumps(generation))


def resize(folder: Path, size: ModelSize) -> None:
    """Write other sizes into a checkpoint's configuration."""
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    head = size.hidden // size.heads
    # Of half a head's dimensions, a quarter for time and the rest for height and width.
    time = head // 8
    text |= {
        "vocab_size": VOCABULARY,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "intermediate_size": size.intermediate,
        "layer_types": ["full_attention"] * size.layers,
        "tie_word_embeddings": size.tied,
        "initializer_range": 0.02,
    }
    text["rope_parameters"]["mrope_section"] = [time, *[(head // 2 - time) // 2] * 2]
    vision |= {
        "hidden_size": size.vision_hidden,
        "intermediate_size": size.vision_intermediate,
        "depth": size.depth,
        "num_heads": size.vision_heads,
        "out_hidden_size": size.hidden,
        "fullatt_block_indexes": list(size.full_blocks),
        "initializer_range": 0.02,
    }
    config |= {"tie_word_embeddings": size.tied, "initializer_range": 0.02}
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    make_model(Path(sys.argv[1]), sys.argv[2])
