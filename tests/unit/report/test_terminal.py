"""Tables at 80 columns, without colour."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from sightline.report.terminal import certificate_table, demo_table, plan_table


def _lines(table: Table) -> list[str]:
    console = Console(width=80, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert max(len(line) for line in lines) <= 80
    return [" ".join(line.split()) for line in lines if line.strip()]


def test_plan_in_one_line_a_kind(maker: Any) -> None:
    lines = _lines(plan_table(maker.plan_record()))
    assert "vision patch_embed freeze 1.51 M 0 -" in lines
    assert "blocks.0-31 freeze 632 M 0 -" in lines
    assert "language layers.0-35 lora 2.77 B 29.9 M 1e-4" in lines
    assert lines[-1] == "all 4.07 B 69.1 M"


def test_the_longest_block_name_fits(maker: Any) -> None:
    plan = maker.plan_record()
    row = plan["rows"][0] | {"tower": "projector"}
    plan["rows"] = [row | {"block": f"deepstack_merger_list.{place}"} for place in range(3)]
    assert "projector deepstack_merger_list.0-2 freeze 4.52 M 0 -" in _lines(plan_table(plan))


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
