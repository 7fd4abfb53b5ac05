"""M-RoPE in a model of your own, and three ways of tuning it, as curves in one picture.

A small language model with 1-D positions is trained on the spot to answer questions about short
videos: in which frame, row and column is the cross? Then it gets M-RoPE and clips of many
sizes, as a model does that is carried over to someone's own videos. Before anything is trained
the loss of the untouched model is printed, for both kinds of positions and both kinds of clips:
a probe that costs one forward pass. Then copies of the same weights are tuned on the same data:

    adapters    low-rank adapters in every linear layer, all else frozen
    staged      first what reads positions and patches, then everything
    everything  all weights from the first step
    1-D         all weights too, but without M-RoPE: what M-RoPE is compared with

    .venv/bin/python examples/mrope_in_your_own_model.py

writes runs/mrope_in_your_own_model/curves.png and takes 2 to 3 minutes on 2 cores, without a GPU
and without a download. --quick makes everything tiny, to see that it runs: its numbers mean
nothing.

What a model of your own needs is in `VideoModel` and `positions_of`: one `MRotaryEmbedding`,
called once a batch; one `apply_mrope` in every layer; and positions of (time, height, width).
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from sightline.positions import Text, Video, mrope_positions
from sightline.rotary import MRotaryEmbedding, apply_mrope

# The vocabulary: digits, the three questions, the four shapes, and the start.
DIGITS, KINDS, QUESTIONS_A_CLIP = 4, 4, 3
FRAME, ROW, COLUMN = range(DIGITS, DIGITS + 3)
SHAPES = DIGITS + 3
START = SHAPES + KINDS
VOCABULARY = START + 1
GUESSING = math.log(DIGITS)


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    width: int = 96
    layers: int = 3
    batch: int = 32
    pretrain_steps: int = 1000
    tune_steps: int = 500
    held_out: int = 256
    score_every: int = 20


QUICK = Scale(48, 2, 16, pretrain_steps=200, tune_steps=60, held_out=64, score_every=10)


# --- the task ---------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Clips and the talk about them.

    Attributes:
        patches: (batch, cells, 16) float32. Frame after frame, row after row.
        tokens: (batch, 1 + 7 * questions) int64. The start, which stands before the video, then
            for every shape asked for: shape, FRAME, digit, ROW, digit, COLUMN, digit.
    """

    patches: torch.Tensor
    tokens: torch.Tensor


@dataclass(frozen=True)
class Clips:
    """Videos of one size. Every kind of shape appears once, somewhere, in noise."""

    frames: int
    rows: int
    columns: int

    @property
    def cells(self) -> int:
        return self.frames * self.rows * self.columns

    def batch(self, size: int, dice: torch.Generator) -> Batch:
        kinds = torch.rand(size, KINDS, generator=dice).argsort(1)
        cells = torch.rand(size, self.cells, generator=dice).argsort(1)[:, :KINDS]
        patches = 0.3 * torch.randn(size, self.cells, 16, generator=dice)
        patches.scatter_add_(1, cells[..., None].expand(-1, -1, 16), pictures()[kinds])
        tokens = [torch.full((size,), START)]
        for kind, cell in zip(kinds.T, cells.T[:QUESTIONS_A_CLIP], strict=False):
            frame, row = cell // (self.rows * self.columns), cell // self.columns % self.rows
            tokens += [kind + SHAPES, torch.full_like(cell, FRAME), frame]
            tokens += [torch.full_like(cell, ROW), row]
            tokens += [torch.full_like(cell, COLUMN), cell % self.columns]
        return Batch(patches, torch.stack(tokens, dim=1))


def pictures() -> torch.Tensor:
    """The shapes, (kinds, 16): a bar, a post, a ring and a cross of 4 x 4 pixels."""
    shapes = torch.zeros(KINDS, 4, 4)
    shapes[0, 1:3, :] = 1
    shapes[1, :, 1:3] = 1
    shapes[2] = 1
    shapes[2, 1:3, 1:3] = 0
    shapes[3] = torch.eye(4) + torch.eye(4).flip(0)
    return shapes.flatten(1)


def positions_of(clips: Clips, kind: str) -> torch.Tensor:
    """(3, 1, seq) int64. The positions of a sample; all samples of `clips` have the same."""
    talk = 7 * QUESTIONS_A_CLIP - 1  # the last answer is predicted, never read
    if kind == "1-D":  # the same position on all three axes is 1-D RoPE
        return torch.arange(1 + clips.cells + talk).expand(3, 1, -1)
    video = Video((clips.frames, clips.rows, clips.columns))
    sample = [Text(1), video, Text(talk)]
    placed = mrope_positions(sample, family="qwen2_vl", spatial_merge_size=1)
    return torch.from_numpy(placed.position_ids).unsqueeze(1)


# --- the model --------------------------------------------------------------------------------


class Attention(nn.Module):
    """Causal attention; the positions enter here and nowhere else."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.query_norm = nn.RMSNorm(head_dim)
        self.key_norm = nn.RMSNorm(head_dim)
        nn.init.constant_(self.query_norm.weight, 2.0)  # sharper from the start: learns faster

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """x: (batch, seq, width); cos, sin: (batch or 1, seq, head_dim)."""
        query, key, value = (
            layer(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # each (batch, heads, seq, head_dim)
        query, key = apply_mrope(self.query_norm(query), self.key_norm(key), cos, sin)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP, each on a residual stream."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, head_dim)
        self.mlp_norm = nn.RMSNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.down(nn.functional.gelu(self.up(self.mlp_norm(x))))


class VideoModel(nn.Module):
    """A decoder that reads patches and tokens. Nothing in it knows the kind of positions."""

    def __init__(self, scale: Scale, head_dim: int = 16) -> None:
        super().__init__()
        self.projector = nn.Linear(16, scale.width)
        self.embedding = nn.Embedding(VOCABULARY, scale.width)
        # 8 pairs of dimensions: 3 turn with time, 3 with height, 2 with width. Interleaved, so
        # that every axis has fast and slow pairs; theta is small because positions are.
        self.rotary = MRotaryEmbedding(head_dim, (3, 3, 2), theta=30.0, axes="interleaved")
        self.blocks = nn.ModuleList(Block(scale.width, head_dim) for _ in range(scale.layers))
        self.norm = nn.RMSNorm(scale.width)
        self.head = nn.Linear(scale.width, VOCABULARY, bias=False)

    def forward(self, batch: Batch, position_ids: torch.Tensor) -> torch.Tensor:
        """Logits (batch, talk, vocabulary) for what follows each token after the video."""
        start, talk = self.embedding(batch.tokens[:, :-1]).tensor_split([1], dim=1)
        x = torch.cat([start, self.projector(batch.patches), talk], dim=1)
        cos, sin = self.rotary(position_ids)  # once, for all layers
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x[:, -talk.shape[1] :]))


def answers(
    model: nn.Module, batch: Batch, position_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (answers, vocabulary) and labels (answers,): the digits, nothing else."""
    read, follows = batch.tokens[:, 1:-1], batch.tokens[:, 2:]
    asked = (read >= FRAME) & (read <= COLUMN)
    return model(batch, position_ids)[asked], follows[asked]


# --- training ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """What may move, for how long, and how fast.

    Attributes:
        trains: Parameters with one of these in their names are trained; "" is in every name.
        share: Of the steps.
        rate: Highest learning rate, after a short warm-up; a cosine takes it down to a tenth.
    """

    trains: tuple[str, ...]
    share: float
    rate: float


OWN = (Clips(4, 3, 3),)  # what the model is pre-trained on
# What it is carried over to: clips of many sizes, as real videos are, and the same digits. A
# token's index alone no longer says in which row and frame it stands.
YOURS = tuple(Clips(f, r, c) for f in (2, 3, 4) for r, c in ((2, 4), (4, 2), (3, 4), (4, 4)))

EVERYTHING = ("",)
POSITION_READERS = ("projector", "attention.query", "attention.key")

PRETRAINING = (Stage(EVERYTHING, 1.0, 3e-3),)
LAYERS = ["query", "key", "value", "out", "up", "down", "projector", "head"]
ADAPTERS = LoraConfig(r=8, lora_alpha=16, target_modules=LAYERS)

# Each way has the best rate of a sweep of its own; held-out loss after 500 steps:
#   adapters    2.5e-3 0.64, 5e-3 0.55, 1e-2 0.68, 2e-2 1.14
#   staged      3e-3 0.58, 6e-3 0.65
#   everything  1.5e-3 0.49, 3e-3 0.44, 6e-3 0.34, 1e-2 0.52
#   1-D         3e-3 0.79, 6e-3 0.90
WAYS = {
    "adapters": ("M-RoPE", [Stage(("lora_",), 1.0, 5e-3)]),
    "staged": ("M-RoPE", [Stage(POSITION_READERS, 0.3, 3e-3), Stage(EVERYTHING, 0.7, 3e-3)]),
    "everything": ("M-RoPE", [Stage(EVERYTHING, 1.0, 6e-3)]),
    "1-D": ("1-D", [Stage(EVERYTHING, 1.0, 3e-3)]),
}

COLORS = {"adapters": "#b35900", "staged": "#7a3e9d", "everything": "#0b5cad", "1-D": "#57606a"}


class Score(NamedTuple):
    """Held out: the cross-entropy in nats, and the share of right digits."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        curve: The score after so many steps, from 0 on.
        trainable: How many numbers moved at some time.
        seconds: Of wall time, scoring included.
    """

    curve: dict[int, Score]
    trainable: int
    seconds: float

    @property
    def end(self) -> Score:
        return self.curve[max(self.curve)]


@torch.no_grad()
def score(model: VideoModel, clips: Sequence[Clips], kind: str, scale: Scale) -> Score:
    """Over held-out clips, as many of each size."""
    made = []
    for size in clips:
        batch = size.batch(scale.held_out // len(clips), torch.Generator().manual_seed(10_000))
        made.append(answers(model, batch, positions_of(size, kind)))
    logits, labels = (torch.cat(parts) for parts in zip(*made, strict=True))
    right = (logits.argmax(-1) == labels).float().mean()
    return Score(nn.functional.cross_entropy(logits, labels).item(), right.item())


def train(
    model: VideoModel,
    clips: Sequence[Clips],
    kind: str,
    stages: Sequence[Stage],
    steps: int,
    scale: Scale,
) -> Result:
    """Train through the stages. Every training with these clips sees them in the same order."""
    dice = torch.Generator().manual_seed(1)
    positions = {size: positions_of(size, kind) for size in clips}
    curve, moved, step = {0: score(model, clips, kind, scale)}, dict[str, int](), 0
    begun = time.perf_counter()
    for stage in stages:
        length = round(steps * stage.share)
        moved |= unfreeze(model, stage)
        optimizer, schedule = optimizer_of(model, stage, length)
        for _ in range(length):
            size = clips[int(torch.randint(len(clips), (), generator=dice))]
            update(model, size.batch(scale.batch, dice), positions[size], optimizer)
            schedule.step()
            step += 1
            if step % scale.score_every == 0 or step == steps:
                curve[step] = score(model, clips, kind, scale)
    return Result(curve, sum(moved.values()), time.perf_counter() - begun)


def unfreeze(model: VideoModel, stage: Stage) -> dict[str, int]:
    """Let the stage's parameters move, and no others; their names and sizes."""
    for name, weight in model.named_parameters():
        weight.requires_grad = any(part in name for part in stage.trains)
        weight.grad = None
    return {name: w.numel() for name, w in model.named_parameters() if w.requires_grad}


def optimizer_of(model: VideoModel, stage: Stage, length: int) -> tuple[AdamW, LambdaLR]:
    warm_up = min(30, length)

    def factor(step: int) -> float:
        falling = 0.55 + 0.45 * math.cos(math.pi * step / length)
        return min(1.0, (step + 1) / warm_up) * falling

    moving = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = AdamW(moving, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    return optimizer, LambdaLR(optimizer, factor)


def update(model: VideoModel, batch: Batch, position_ids: torch.Tensor, optimizer: AdamW) -> None:
    optimizer.zero_grad()
    logits, labels = answers(model, batch, position_ids)
    nn.functional.cross_entropy(logits, labels).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def tune(pretrained: VideoModel, way: str, scale: Scale) -> Result:
    """Tune a copy on the clips of the user."""
    model = copy.deepcopy(pretrained)
    torch.manual_seed(2)
    kind, stages = WAYS[way]
    if way == "adapters":
        inject_adapter_in_model(ADAPTERS, model)
    return train(model, YOURS, kind, stages, scale.tune_steps, scale)


# --- what is shown ----------------------------------------------------------------------------


def sizes_of(clips: Sequence[Clips]) -> str:
    sizes = [f"{size.frames} x {size.rows} x {size.columns}" for size in clips]
    if len(sizes) == 1:
        return f"clips of {sizes[0]} cells"
    return f"{len(sizes)} sizes, from {sizes[0]} to {sizes[-1]} cells"


def show_probe(model: VideoModel, scale: Scale) -> None:
    """The losses of the untouched model, and what they say."""
    own, own_mrope = (score(model, OWN, kind, scale).loss for kind in ("1-D", "M-RoPE"))
    yours, yours_mrope = (score(model, YOURS, kind, scale).loss for kind in ("1-D", "M-RoPE"))
    print("\nStep 0: the loss of the untouched model, before anything is tuned")
    print("                              1-D positions    M-RoPE")
    print(f"  clips of its pre-training   {own:13.3f}  {own_mrope:8.3f}")
    print(f"  your clips                  {yours:13.3f}  {yours_mrope:8.3f}")
    print(f"  guessing digits             {GUESSING:13.3f}  {GUESSING:8.3f}")
    if own > GUESSING / 2:
        print("Not even its own clips are read well: train longer, the probe says nothing yet.")
    elif own_mrope > own + 0.1:
        print(
            f"First row: the same clips, and the positions alone cost {own_mrope - own:.2f}. They"
        )
        print("differ from those of pre-training: the weights have to learn to read them.")
    else:
        print(
            f"First row: the positions alone change the loss by {own_mrope - own:+.2f}: the model"
        )
        print("reads them as they are. If the loss stays up in training, too little may move.")


def show_table(results: dict[str, Result], steps: int) -> None:
    print(f"\nAfter {steps} steps on your clips, held out:")
    print("  way         positions   trainable   loss at 0    loss   right   seconds")
    for way, result in results.items():
        print(
            f"  {way:<11} {WAYS[way][0]:<9} {result.trainable:>11,} {result.curve[0].loss:11.3f}"
            f" {result.end.loss:7.3f} {result.end.accuracy:7.1%} {result.seconds:9.1f}"
        )


def show_conclusion(results: dict[str, Result]) -> None:
    """What the numbers say, whatever they are."""
    ends = {way: result.end.loss for way, result in results.items()}
    plain = ends.pop("1-D")
    best = min(ends, key=ends.__getitem__)
    print(f"\nWith M-RoPE, {best!r} ends lowest, at {ends.pop(best):.3f}.")
    for way, end in ends.items():
        passed = min(step for step, at in results[best].curve.items() if at.loss <= end)
        print(f"{way!r} ends at {end:.3f}, where {best!r} was after {passed} steps.")
    floor = min(results[best].end.loss, *ends.values())
    if results["adapters"].end.loss > 1.2 * floor:
        print("The adapters are behind by more than a fifth: for these positions, more must move.")
    else:
        print("The adapters are within a fifth of the best: here they are enough.")
    change = "lower" if plain < results["everything"].end.loss else "higher"
    print(f"Everything unfrozen, but left with 1-D positions, ends {change}: {plain:.3f}.")


def draw(results: dict[str, Result], path: Path) -> None:
    """Held-out loss over the steps, every way in one picture."""
    figure = Figure(figsize=(10, 5.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    label_height = 0.0
    for way in sorted(results, key=lambda way: results[way].end.loss):
        steps, scores = zip(*results[way].curve.items(), strict=True)
        end, color = scores[-1].loss, COLORS[way]
        axes.plot(
            steps,
            [at.loss for at in scores],
            "--" if way == "1-D" else "-",
            color=color,
            lw=2.2,
            label=way if way == WAYS[way][0] else f"{way}, {WAYS[way][0]}",
        )
        label_height = max(end, 1.09 * label_height)  # labels of near ends must not overlap
        axes.annotate(
            f"{way}  {end:.2f}",
            (steps[-1], label_height),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontweight="bold",
            annotation_clip=False,
        )
    axes.axhline(GUESSING, color=COLORS["1-D"], lw=1, ls=":")
    dress(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    print(f"\nThe curves: {path}")


def dress(axes: Axes) -> None:
    right = axes.get_yaxis_transform()
    axes.text(1, GUESSING * 1.03, "guessing", color=COLORS["1-D"], ha="right", transform=right)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e7eb")
    axes.set_xlabel("step")
    axes.set_ylabel("loss on held-out clips")
    axes.set_title("The same weights on your clips, tuned in different ways", loc="left")
    axes.legend(frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/mrope_in_your_own_model"))
    parser.add_argument("--quick", action="store_true", help="tiny: only to see that it runs")
    options = parser.parse_args()
    scale = QUICK if options.quick else Scale()
    torch.manual_seed(0)
    model = VideoModel(scale)
    own = train(model, OWN, "1-D", PRETRAINING, scale.pretrain_steps, scale)
    print(f"Pre-trained on {sizes_of(OWN)}, 1-D positions, {own.seconds:.0f} s:")
    print(f"loss {own.end.loss:.3f}, {own.end.accuracy:.1%} of the digits right.")
    print(f"Your clips: {sizes_of(YOURS)}.")
    halved = copy.deepcopy(model).to(torch.bfloat16)
    print(
        f"Cast to bfloat16, weights are {halved.head.weight.dtype}, but frequencies "
        f"{halved.rotary.inv_freq.dtype}."
    )
    show_probe(model, scale)
    results = {way: tune(model, way, scale) for way in WAYS}
    show_table(results, scale.tune_steps)
    show_conclusion(results)
    draw(results, options.output / "curves.png")


if __name__ == "__main__":
    main()
