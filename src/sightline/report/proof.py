"""The proof of a plan in the terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from sightline.report.quantities import count_text, number_text, plural
from sightline.report.terminal import make_table

_MAX_NAMED = 5


def proof_report(proof: Mapping[str, Any]) -> RenderableType:
    """What one real batch reached, tower by tower and kind by kind.

    Args:
        proof: ``before`` of ``proof.json``.
    """
    table = make_table()
    table.add_column("tower")
    table.add_column("layers")
    table.add_column("plan")
    for name in ("tensors", "reached", "waiting", "without"):
        table.add_column(name, justify="right")
    table.add_column("gradient", justify="right")
    for (tower, kind, how), rows in grouped_rows(proof["rows"]).items():
        tensors, reached, waiting = (
            sum(row[key] for row in rows) for key in ("num_tensors", "num_reached", "num_waiting")
        )
        missed = tensors - reached - waiting
        norm = sum(row["gradient_norm"] ** 2 for row in rows) ** 0.5
        cells = [tower, kind, how, *map(count_text, (tensors, reached, waiting, missed))]
        table.add_row(
            *(Text(cell) for cell in cells),
            Text(number_text(norm)),
            style="bold red" if missed else "",
        )
    return Group(Text(), _sent(proof), Text(), table, Text(), *_verdict(proof))


def grouped_rows(
    rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    """Rows of a proof by tower, kind of the layers, and how they train.

    Args:
        rows: Rows of ``proof.json``, one a block.
    """
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["tower"], row["kind"], row["how"]), []).append(row)
    return found


def batch_text(proof: Mapping[str, Any]) -> str:
    """What was sent through the model before the first step, in words.

    Args:
        proof: ``before`` of ``proof.json``.
    """
    media = [
        plural(proof[key], name)
        for key, name in (("num_images", "image"), ("num_videos", "video"))
        if proof[key]
    ]
    told = ", ".join([*media, plural(proof["num_supervised_tokens"], "token") + " with a loss"])
    return f"{told}; loss {number_text(proof['loss'])}"


def _sent(proof: Mapping[str, Any]) -> Text:
    where = "\n".join(f"        {sample}" for sample in proof["samples"])
    return Text(
        f"batch   {batch_text(proof)}\n{where}\n"
        f"        gradient checkpointing: {proof['checkpointing']}"
    )


def _verdict(proof: Mapping[str, Any]) -> list[Text]:
    tensors = sum(row["num_tensors"] for row in proof["rows"])
    if not proof["faults"]:
        waiting = sum(row["num_waiting"] for row in proof["rows"])
        lines = [
            Text(
                f"proven  {plural(tensors, 'tensor')} to train reached, "
                f"{count_text(proof['num_frozen'])} frozen ones got no gradient",
                style="green",
            )
        ]
        if waiting:
            lines.append(
                Text(
                    f"        {count_text(waiting)} LoRA factors wait for a partner that is zero "
                    "before step 1"
                )
            )
        return lines
    faults = proof["faults"]
    lines = [Text(f"NOT PROVEN: {plural(len(faults), 'tensor')} not as the plan says", "bold red")]
    lines += [Text(f"        {fault['name']}: {fault['what']}") for fault in faults[:_MAX_NAMED]]
    if len(faults) > _MAX_NAMED:
        lines.append(Text(f"        and {count_text(len(faults) - _MAX_NAMED)} more"))
    return [*lines, Text(proof["cause"])]
