"""What ``sightline check`` says of memory and time, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GIB = 2**30
_KEYS = (
    ("batch_size", "training.batch_size"),
    ("accumulation", "training.gradient_accumulation"),
    ("tokens_per_row", "training.tokens_per_row"),
    ("checkpointing", "training.gradient_checkpointing"),
    ("num_workers", "training.num_workers"),
)
_TITLES = {
    "weights": "weights",
    "optimizer": "optimizer",
    "gradients": "gradients",
    "activations": "activations",
    "logits": "logits and loss",
    "transient": "while computing",
}


def estimate_report(record: Mapping[str, Any]) -> RenderableType:
    """The estimate of a check.

    Args:
        record: What ``sightline.preparation.estimate.estimate`` returns.
    """
    device = record["device"]
    return Group(
        Text(),
        Text(f"Estimate for {device['title']}, {record['precision']}", style="bold"),
        *(Padding(part, (0, 0, 0, 2)) for part in _sections(record)),
    )


def proposed_changes(record: Mapping[str, Any]) -> list[str]:
    """Keys that the proposal would change, as they are written: ``training.batch_size: 4``."""
    current, proposed = record["settings"], record["proposal"]
    return [
        f"{key}: {_written(proposed[name])}"
        for name, key in _KEYS
        if proposed[name] != current[name]
    ]


def _sections(record: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield _parts(record)
    yield Text(_batch(record))
    if len(record["stages"]) > 1:
        stages = record["stages"]
        yield Text(f"most in stage {stages[record['stage']]}, of {', '.join(stages)}")
    yield from map(Text, _time(record["step"], record["num_ranks"]))
    yield from _proposal(record)


def _parts(record: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for name, justify in (("peak memory", "left"), ("GiB", "right"), ("share", "right")):
        table.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    total = record["peak_bytes"]
    for name, size in record["parts"].items():
        table.add_row(_TITLES[name], _gib(size), f"{size / total:.0%}")
    device = record["device"]
    fits = "fits" if record["fits"] else "does not fit"
    table.add_row("together", _gib(total), f"of {device['memory_gib']:.0f}: {fits}", style="bold")
    return table


def _batch(record: Mapping[str, Any]) -> str:
    batch = record["batch"]
    count = batch["samples"]
    laid = "" if count == 1 else " packed" if record["packed"] else " padded"
    return (
        f"most in a micro-batch of {count} {'sample' if count == 1 else 'samples'}{laid}: "
        f"{batch['tokens']:,} tokens, {batch['vision_tokens']:,} of vision"
    )


def _time(step: Mapping[str, Any], num_ranks: int) -> Iterator[str]:
    if step["seconds"] is None:
        yield f"a step is {step['flops'] / 1e12:,.1f} TFLOP; its time here is not known"
    else:
        epoch = _duration(step["seconds"] * step["steps_an_epoch"])
        yield (
            f"a step takes about {_duration(step['seconds'])}, an epoch {epoch}: "
            f"{step['utilisation']:.0%} of {step['tflops']:,.3g} TFLOP/s"
        )
    rate = step["tokens_a_second"]
    speed = "" if rate is None else f", {rate:,.0f} tokens a second"
    lost = []
    if step["padding_share"] > 0:
        lost.append(f"{step['padding_share']:.0%} padding")
    if num_ranks > 1:
        lost.append(f"{num_ranks} processes wait {step['idle_share']:.0%} of the time")
    yield (
        f"a step has {step['tokens']:,.0f} tokens in {_number(step['micro_batches'])} "
        f"micro-batches{speed}"
    )
    if lost:
        yield "; ".join(lost)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


def _proposal(record: Mapping[str, Any]) -> Iterator[RenderableType]:
    proposal = record["proposal"]
    if not proposal["fits"]:
        yield Text(
            f"nothing fits: the smallest settings take {_gib(proposal['peak_bytes'])} GiB. Besides:"
        )
        yield from _list(record["remedies"])
        return
    changes = proposed_changes(record)
    if not changes:
        yield Text("no other settings are proposed")
        return
    saved = ""
    if record["step"]["seconds"] and proposal["step"]["seconds"] is not None:
        saved = f", about {_duration(proposal['step']['seconds'])} a step"
    yield Text(f"proposed, {_gib(proposal['peak_bytes'])} GiB{saved}:")
    yield from _list(changes)


def _list(lines: Sequence[str]) -> Iterator[RenderableType]:
    for line in lines:
        yield Padding(Text(line), (0, 0, 0, 2))


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _gib(size: int) -> str:
    gib = size / GIB
    return f"{gib:,.1f}" if gib >= 10 else f"{gib:.2f}" if gib >= 0.1 else f"{gib:.4f}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
