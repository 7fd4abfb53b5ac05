"""Tables at 80 columns, without colour."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, RenderableType

from sightline.report.terminal import certificate_table, demo_table, plan_table


def _lines(table: RenderableType) -> list[str]:
    console = Console(width=80, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert max(len(line) for line in lines) <= 80
    return [" ".join(line.split()) for line in lines if line.strip()]


def test_plan_in_one_line_a_block(maker: Any) -> None:
    lines = _lines(plan_table(maker.plan_record()))
    assert "vision 634 M freeze - -" in lines
    assert "└─ blocks.0-31 632 M freeze - -" in lines
    assert "├─ layers.0-35 2.77 B lora r16 29.9 M 1e-4" in lines
    assert "projector: merger 36.7 M full 36.7 M 1e-5" in lines
    assert lines[-1] == "all 4.07 B 69.1 M"


def test_a_staged_plan_says_when_and_draws_it(maker: Any) -> None:
    lines = _lines(plan_table(maker.staged_plan_record()))
    assert "language 2.42 K lora r16 160 ≤1e-4 2-3" in lines
    assert "├─ layers.0-1 1.21 K lora r16 80 1e-5 3" in lines
    # What is inside a block is shown where it does not train alike.
    assert "├─ attention 200 lora r16 40 1e-6 3" in lines
    assert "└─ mlp 200 freeze - - -" in lines
    assert "reads block 0" in lines
    assert "head: tied to embeddings" in lines
    assert "language ··············▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒" in lines
    told = " ".join(lines)
    assert "1 projector, until 25 % of the run; 2 upper, until step 30; 3 everything" in told
    assert "to the end of the run" in told
    assert "not to scale" not in told


@pytest.mark.parametrize("num_kinds", [1, 7, 40])
def test_a_plan_of_many_ways_stays_in_sight(maker: Any, num_kinds: int) -> None:
    rows = [
        maker.plan_row("language", f"layers.{n}", kind, 100, 10, "lora", [1e-4 * (n % num_kinds)])
        for n in range(80)
        for kind in ("attention", "mlp")
    ]
    for row in rows[::2]:
        row["learning_rates"] = [1e-5]
    plan = maker.plan_of(rows, [maker.plan_stage("the whole run")])
    lines = _lines(plan_table(plan))
    assert len(lines) <= 27
    assert lines[1].startswith("language 16 K lora r16 1.6 K")


def test_the_names_of_stages_are_no_markup(maker: Any) -> None:
    plan = maker.staged_plan_record()
    plan["stages"][0]["name"] = "[red]one[/red][/]"
    assert "1 [red]one[/red][/], until" in " ".join(_lines(plan_table(plan)))


def test_the_longest_block_name_fits(maker: Any) -> None:
    plan = maker.staged_plan_record()
    row = maker.plan_row("projector", "", "deepstack", 1_510_000, rates=[None] * 3)
    deepstack = [row | {"block": f"deepstack_merger_list.{place}"} for place in range(3)]
    plan["rows"] = [row | {"block": "merger", "kind": "merger"}, *deepstack]
    assert "└─ deepstack_merger_list.0-2 4.53 M freeze - - -" in _lines(plan_table(plan))


def test_certificate_says_verdicts_in_words(maker: Any) -> None:
    lines = _lines(certificate_table(maker.certificate_record(fails=True)))
    assert "Positions equal those of 0 of 4 samples differ 0 samples holds" in lines
    assert sum("FAILS" in line for line in lines) == 1
    assert sum("info" in line for line in lines) == 1


def test_text_of_checks_is_no_markup(maker: Any) -> None:
    check = maker.check_record(1, title="[red]messages[0][/red]", measured="[/]")
    lines = _lines(certificate_table({"checks": [check]}))
    assert "[red]messages[0][/red] [/] 0 samples holds" in lines


def test_demo_rows() -> None:
    row = {"loss": 6.4e-4, "num_equal": 4, "num_samples": 4}
    lines = _lines(
        demo_table(
            [
                row | {"family": "Qwen2-VL", "control_equal": 2, "verdict": "holds"},
                row | {"family": "Qwen3-VL", "control_equal": None, "verdict": "fails"},
            ]
        )
    )
    assert "Qwen2-VL 6.4e-4 4 of 4 2 of 4 holds" in lines
    assert "Qwen3-VL 6.4e-4 4 of 4 - FAILS" in lines
