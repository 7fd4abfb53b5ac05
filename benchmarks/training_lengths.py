"""Training on lengths as they are in the wild: packed, padded, and LLaMA-Factory as it comes.

Text is lognormal, with one to four pictures a row, as measured in the wild (median 859, 95 % under
2,102, longest 4,140 tokens). Beside LLaMA-Factory all lengths are a sixth of that: it holds the
logits of every cell of a batch, 20 GB and more at full length. Everyone sees the same rows once,
so tokens a second are compared by seconds.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from environments import not_measured
from training_tools import Contender, Trained, llamafactory, sightline, turn, versions_of
from training_work import Job, Outcome, draw_pictures

# What lengths are divided by beside another tool, and how many rows there are.
SCALE = 6
NUM_ROWS = 64
# No row is longer.
LONGEST = 6000
# At full length.
NUM_WHOLE = 32
BUDGET = 8192
BATCH = 8
SUPERVISED = 0.3
WORDS = ("red", "green", "blue", "yellow", "circle", "square", "triangle", "star", "ring", "heart")
SIDE = 112
NUM_DRAWN = 16


def lengths(work: Path, model: Path, lf: str | None) -> Outcome:
    """Print the tables."""
    outcome = Outcome()
    padded, packed = sightline("padded", packing="off"), _packed_to(BUDGET)
    found = _table(work, model, [padded, packed], scale=1, count=NUM_WHOLE)
    ratio = found[padded.name].seconds / found[packed.name].seconds
    outcome.at_least("packed over padded", ratio, 1.8)
    if not lf:
        print(not_measured("llamafactory"))
        return outcome
    tool, packed = _as_it_comes(llamafactory(lf)), _packed_to(BUDGET // SCALE)
    contenders = [padded, sightline("packed", packing="on"), packed, tool]
    found = _table(work, model, contenders, scale=SCALE, count=NUM_ROWS)
    ratio = found[tool.name].seconds / found[packed.name].seconds
    outcome.at_least(f"packed over {tool.name}", ratio, 3.0)
    print(f"{tool.name}: {versions_of(tool)}; batches of 8, its own checkpointing")
    return outcome


def _packed_to(budget: int) -> Contender:
    tokens = {"tokens_per_step": budget, "tokens_per_row": budget, "packing": "on"}
    unset = {"batch_size": "unset", "gradient_accumulation": "unset"}
    return sightline(f"packed to {budget}", **tokens, **unset)


def _table(
    work: Path, model: Path, contenders: list[Contender], *, scale: int, count: int
) -> dict[str, Trained]:
    """Print a row of each on the same rows; how each trained."""
    data = make_rows(work / f"lengths-{scale}", model, count=count, scale=scale)
    job = Job(
        work=work, model=model, data=data, samples=count, epochs=1, batch=BATCH, max_length=LONGEST
    )
    total, answers = count_tokens(data, model)
    print(f"\nlengths: {count} rows, {told_lengths(total)}", flush=True)
    print("                        training  tokens/s  supervised/s    peak   mean")
    print("                               s                              GB   loss")
    found = {}
    for one in contenders:
        trained, command = turn(one, job)
        found[one.name] = trained
        print(
            f"{one.name:<22}{trained.seconds:>10.1f} {sum(total) / trained.seconds:>9.0f} "
            f"{answers / trained.seconds:>13.1f} {command.peak / 1e9:>7.2f} {trained.loss:>6.2f}",
            flush=True,
        )
    return found


def _as_it_comes(tool: Contender) -> Contender:
    """With gradient checkpointing as it is when nobody says anything, and batches of eight."""

    def command(job: Job, folder: Path) -> Sequence[str]:
        made = tool.command(job, folder)
        path = folder / "run.yaml"
        config: dict[str, Any] = json.loads(path.read_text())
        del config["disable_gradient_checkpointing"]
        path.write_text(json.dumps(config))
        return made

    return replace(tool, name=f"{tool.name} as it is", command=command)


def make_rows(
    folder: Path, model: Path, *, count: int = NUM_ROWS, scale: float = SCALE, side: int = SIDE
) -> Path:
    """Rows whose lengths in tokens are lognormal, with one to four pictures.

    Args:
        folder: Where they are made.
        model: The checkpoint whose tokenizer counts.
        count: Rows.
        scale: Lengths are those of the wild, divided by it.
        side: Height and width of the pictures, pixels.
    """
    if folder.is_dir():
        return folder
    draw_pictures(folder, NUM_DRAWN, side, side)
    chosen = random.Random(0)
    per_word = _tokens(model, " ".join(WORDS)) / len(WORDS)
    rows = []
    for _ in range(count):
        pictures = chosen.randint(1, 4)
        wanted = min(chosen.lognormvariate(6.75, 0.6), 4140) / scale - (side // 28) ** 2 * pictures
        words = max(int(wanted / per_word), 8)
        said = max(int(words * SUPERVISED), 4)
        texts = [" ".join(chosen.choices(WORDS, k=many)) for many in (words - said, said)]
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": "<image>" * pictures + texts[0]},
                    {"role": "assistant", "content": texts[1]},
                ],
                "images": [f"images/{chosen.randrange(NUM_DRAWN):05}.png" for _ in range(pictures)],
            }
        )
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "train.jsonl").write_text(lines)
    return folder


def count_tokens(data: Path, model: Path, side: int = SIDE) -> tuple[list[int], int]:
    """Tokens of every row, and answers' tokens of all; without the template's few."""
    totals, answers = [], 0
    for line in (data / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked, said = (turn["content"].replace("<image>", "") for turn in row["messages"])
        answered = _tokens(model, said)
        pictures = len(row["images"]) * (side // 28) ** 2
        totals.append(_tokens(model, asked) + answered + pictures)
        answers += answered
    return totals, answers


def told_lengths(totals: list[int]) -> str:
    """The lengths in words."""
    ordered = sorted(totals)
    high = ordered[int(0.95 * len(ordered))]
    middle = statistics.median(ordered)
    return f"median {middle:.0f}, 95 % under {high}, longest {ordered[-1]} tokens"


_counters: dict[Path, Any] = {}


def _tokens(model: Path, text: str) -> int:
    from tokenizers import Tokenizer

    if model not in _counters:
        _counters[model] = Tokenizer.from_file(str(model / "tokenizer.json"))
    return len(_counters[model].encode(text).ids)
