"""Two loops without a framework, each a process of its own: ``plain`` and ``lean``.

``python training_loops.py plain|lean SETTINGS``: SETTINGS is JSON, `Job.record`. Prints seconds
from the first step's data to the end of the last step, mean loss and trained numbers as JSON, as
the last line.

``plain`` is what a notebook has: the processor of transformers makes a batch, ``model(labels=...)``
its loss. ``lean`` does only what is needed, with everything that is known to be fast: bytes of
patches with normalisation folded into the patch embedding, token ids made beforehand, positions
given, no mask (padding is on the right, where causal attention does not see it), hidden states of
supervised tokens alone into a chunked head and loss. Both pad batches and train the same LoRA.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor

IGNORED = -100
LANGUAGE_LINEARS = r".*language_model\.layers\..*\.(q|k|v|o|gate|up|down)_proj"
CHUNK = 64
Batch = dict[str, Any]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows with the paths of their pictures made whole."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["images"] = [str(folder / name) for name in row["images"]]
    return rows


def conversation(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row as the chat template takes it."""
    asked, said = (turn["content"] for turn in row["messages"])
    content = [{"type": "image"} for _ in row["images"]]
    question = {"type": "text", "text": asked.replace("<image>", "")}
    return [
        {"role": "user", "content": [*content, question]},
        {"role": "assistant", "content": [{"type": "text", "text": said}]},
    ]


class PlainBatches:
    """Batches as the processor makes them."""

    def __init__(self, rows: list[dict[str, Any]], processor: Any) -> None:
        self._rows = rows
        self._processor = processor

    def __call__(self, numbers: list[int]) -> Batch:
        rows = [self._rows[number] for number in numbers]
        turns = [conversation(row) for row in rows]
        template = self._processor.apply_chat_template
        texts = [template(turn, tokenize=False) for turn in turns]
        asked = [template(turn[:1], tokenize=False, add_generation_prompt=True) for turn in turns]
        pictures = [[Image.open(name) for name in row["images"]] for row in rows]
        made = {"images": pictures, "padding": True, "return_tensors": "pt"}
        batch = self._processor(text=texts, padding_side="right", **made)
        labels = batch["input_ids"].clone()
        labels[batch["attention_mask"] == 0] = IGNORED
        marks = self._processor.tokenizer(asked)["input_ids"]
        merged = (batch["image_grid_thw"].prod(dim=1) // 4).tolist()
        for row, ids in enumerate(marks):
            # A picture is one mark in the text, and as many tokens as its patches make in the row.
            images = [merged.pop(0) for _ in rows[row]["images"]]
            labels[row, : len(ids) + sum(images) - len(images)] = IGNORED
        # The turn closes with a line break that nobody has to learn.
        ends = batch["attention_mask"].sum(dim=1) - 1
        labels[torch.arange(len(rows)), ends] = IGNORED
        return {**batch, "labels": labels}


def plain_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The model's own loss."""
    return model(**batch).loss


class LeanBatches:
    """Batches of bytes, with positions."""

    def __init__(self, rows: list[dict[str, Any]], processor: Any, max_pixels: int) -> None:
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        self._pictures = [row["images"] for row in rows]
        self._sizes: list[list[tuple[int, int]]] = []
        self._ids: list[np.ndarray] = []
        self._first: list[int] = []
        pad = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        for row in rows:
            sizes = []
            for name in row["images"]:
                width, height = Image.open(name).size
                sizes.append(smart_resize(height, width, max_pixels=max_pixels))
            turn = conversation(row)
            template = processor.apply_chat_template
            text = template(turn, tokenize=False).removesuffix("\n")
            asked = template(turn[:1], tokenize=False, add_generation_prompt=True)
            ids = self._expand(processor.tokenizer(text)["input_ids"], sizes, pad)
            before = self._expand(processor.tokenizer(asked)["input_ids"], sizes, pad)
            self._sizes.append(sizes)
            self._ids.append(ids)
            self._first.append(len(before))
        self._pad = pad

    def _expand(self, ids: list[int], sizes: list[tuple[int, int]], pad: int) -> np.ndarray:
        counts = iter(height * width // 784 for height, width in sizes)
        whole: list[int] = []
        for number in ids:
            whole.extend([pad] * next(counts) if number == pad else [number])
        return np.array(whole)

    def __call__(self, numbers: list[int]) -> Batch:
        length = max(len(self._ids[number]) for number in numbers)
        ids = np.zeros((len(numbers), length), dtype=np.int64)
        targets = np.full((len(numbers), length), IGNORED, dtype=np.int64)
        places = np.zeros((4, len(numbers), length), dtype=np.int64)
        patches, grids = [], []
        for row, number in enumerate(numbers):
            own, first = self._ids[number], self._first[number]
            ids[row, : len(own)] = own
            # A column predicts the token after it.
            targets[row, first - 1 : len(own) - 1] = own[first:]
            places[0, row] = np.arange(length)
            places[1:, row, : len(own)] = self._positions(own, self._sizes[number])
            for name, (height, width) in zip(
                self._pictures[number], self._sizes[number], strict=True
            ):
                patches.append(bytes_of(name, height, width))
                grids.append((1, height // 14, width // 14))
        return {
            "input_ids": torch.from_numpy(ids),
            "position_ids": torch.from_numpy(places),
            "targets": torch.from_numpy(targets),
            "pixel_values": torch.from_numpy(np.concatenate(patches)) if patches else None,
            "image_grid_thw": torch.tensor(grids) if grids else None,
        }

    def _positions(self, ids: np.ndarray, sizes: list[tuple[int, int]]) -> np.ndarray:
        """(3, seq) t, h and w: text counts on, a picture is a grid from where it begins."""
        made = np.zeros((3, len(ids)), dtype=np.int64)
        column, place = 0, 0
        for height, width in sizes:
            start = column + int(np.argmax(ids[column:] == self._pad))
            made[:, column:start] = place + np.arange(start - column)
            place += start - column
            rows, columns = height // 28, width // 28
            column = start + rows * columns
            made[0, start:column] = place
            made[1, start:column] = place + np.repeat(np.arange(rows), columns)
            made[2, start:column] = place + np.tile(np.arange(columns), rows)
            place += max(rows, columns)
        made[:, column:] = place + np.arange(len(ids) - column)
        return made


def bytes_of(name: str, height: int, width: int) -> np.ndarray:
    """(num_patches, 588) uint8 patches of a picture, in the order of 2 x 2 merged tokens."""
    picture = Image.open(name).convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    split = np.asarray(picture).reshape(height // 28, 2, 14, width // 28, 2, 14, 3)
    return split.transpose(0, 3, 1, 4, 6, 2, 5).reshape(-1, 588)


def lean_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Head and loss on supervised tokens alone."""
    targets = batch.pop("targets")
    if batch["pixel_values"] is not None:
        batch["pixel_values"] = batch["pixel_values"].float()
    inner = model.get_base_model()
    hidden = inner.model(**batch, use_cache=False).last_hidden_state
    kept = targets != IGNORED
    return nn.functional.linear_cross_entropy(
        hidden[kept],
        inner.lm_head.weight,
        targets[kept],
        # Its own choice of a chunk is 6 to 15 times slower on a CPU.
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK),
    )


class FoldedEmbedding(nn.Module):
    """A patch embedding that takes bytes: scale, shift and the sum over both frames are in it."""

    def __init__(self, embedding: nn.Conv3d, images: Any) -> None:
        super().__init__()
        weight = embedding.weight.detach().sum(dim=2)
        scale = torch.tensor(images.image_std)[:, None, None]
        shift = torch.tensor(images.image_mean)[:, None, None] / scale
        self.weight = nn.Parameter((weight / (255 * scale)).flatten(1))
        self.bias = nn.Parameter(-(weight * shift).sum(dim=(1, 2, 3)))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(num_patches, width) of (num_patches, 588) grey levels."""
        return nn.functional.linear(patches, self.weight, self.bias)


def fold_normalisation(model: Any, processor: Any) -> None:
    """Let the vision tower take bytes."""
    visual = model.model.visual
    visual.patch_embed = FoldedEmbedding(visual.patch_embed.proj, processor.image_processor)


def batches(count: int, job: dict[str, Any]) -> Iterator[list[int]]:
    """Numbers of the rows of every step, in an order anew each epoch."""
    chosen = np.random.default_rng(0)
    for _ in range(job["epochs"]):
        order = chosen.permutation(count).tolist()
        for begin in range(0, count - job["batch"] + 1, job["batch"]):
            yield order[begin : begin + job["batch"]]


def train(
    model: nn.Module,
    make: Callable[[list[int]], Batch],
    loss_of: Callable[[Any, Batch], torch.Tensor],
    count: int,
    job: dict[str, Any],
) -> dict[str, float]:
    """The loop."""
    model.train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job["rate"], weight_decay=0.0, fused=True)
    losses = []
    start = time.perf_counter()
    for numbers in batches(count, job):
        loss = loss_of(model, make(numbers))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    seconds = time.perf_counter() - start
    mean = sum(losses) / len(losses)
    return {"seconds": seconds, "loss": mean, "trained": sum(w.numel() for w in trained)}


def main(kind: str, settings: str) -> None:
    """Train once."""
    job = json.loads(settings)
    torch.manual_seed(0)
    rows = read_rows(Path(job["data"]))
    processor = AutoProcessor.from_pretrained(job["model"], max_pixels=job["max_pixels"])
    plain = AutoModelForImageTextToText.from_pretrained(job["model"], dtype=torch.float32)
    make: Callable[[list[int]], Batch]
    if kind == "lean":
        fold_normalisation(plain, processor)
        make, loss_of = LeanBatches(rows, processor, job["max_pixels"]), lean_loss
    else:
        make, loss_of = PlainBatches(rows, processor), plain_loss
    lora = LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules=LANGUAGE_LINEARS)
    print(json.dumps(train(get_peft_model(plain, lora), make, loss_of, len(rows), job)))


if __name__ == "__main__":
    main(*sys.argv[1:])
