"""The page of a comparison in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sightline.records import append_jsonl
from sightline.report.compare import compare_record, load_runs
from sightline.report.compare_page import look_of, write_comparison

ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture
def runs(tmp_path: Path, maker: ModuleType) -> tuple[Path, Path]:
    """A proven run, and one of another family and length of which a check fails."""
    return maker.make_two(tmp_path)


class Opened:
    """A page in a browser, and what its console said."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri(), timeout=60_000)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Opens the page of runs."""
    contexts: list[Any] = []

    def open_page(*runs: Path, **options: Any) -> Opened:
        path = tmp_path / "compared.html"
        records = load_runs(runs)
        write_comparison(records, compare_record(records), path)
        context = browser.new_context(**options)
        contexts.append(context)
        return Opened(context.new_page(), path)

    yield open_page
    for context in contexts:
        context.close()


def test_curves_lie_over_each_other(runs: tuple[Path, Path], opened: Callable[..., Opened]) -> None:
    page = opened(*runs, viewport={"width": 1200, "height": 900})
    titles = page.page.locator("figcaption .strong").all_inner_texts()
    # Nothing is held out in the second, and only it logged its speed.
    expected = [
        "Training loss",
        "Held-out loss",
        "Learning rate",
        "Gradient norm",
        "Tokens a second",
    ]
    assert titles == expected
    lines = [
        figure.locator(".plot polyline").count() for figure in page.page.locator("figure").all()
    ]
    assert lines == [2, 1, 2, 2, 1]
    legend = page.page.locator("figure").first.locator(".series .name").all_inner_texts()
    assert legend == ["A first", "B second"]
    # A run looks the same in a chart that it shares and in one that it has alone.
    for figure in (0, 4):
        line = page.page.locator("figure").nth(figure).locator(".plot .of-run-1 polyline")
        assert line.evaluate("(one) => getComputedStyle(one).strokeDasharray") == "8px, 4px"
    [first, second] = page.page.locator("figure").first.locator(".plot polyline").all()
    dashes = [
        one.evaluate("(one) => getComputedStyle(one).strokeDasharray") for one in (first, second)
    ]
    assert dashes == ["none", "8px, 4px"]
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


def test_no_two_runs_look_the_same() -> None:
    looks = [look_of(number) for number in range(25)]
    assert len({(look.colour, look.dashes) for look in looks}) == 25
    # Neighbours are told apart without colours.
    assert all(one.dashes != two.dashes for one, two in pairwise(looks))


def test_a_run_is_hidden_and_shown_by_its_button(
    runs: tuple[Path, Path], opened: Callable[..., Opened]
) -> None:
    page = opened(*runs)
    figure = page.page.locator("figure").first
    button = figure.locator(".series", has_text="A first")
    button.focus()
    button.press("Enter")
    assert figure.locator(".plot .of-run-0 polyline").count() == 0
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    assert figure.locator(".plot .of-run-0 polyline").count() == 1


def test_names_and_records_are_shown_as_text(
    tmp_path: Path, maker: ModuleType, opened: Callable[..., Opened]
) -> None:
    first = maker.make_run(tmp_path / ATTACK, fails=True)
    second = maker.make_run(tmp_path / "</script><script>alert(2)<" / "run")
    third = maker.make_run(tmp_path / "other" / "run")
    maker.rewrite(first / "run.json", model=ATTACK, device=ATTACK, versions={ATTACK: ATTACK})
    config = first / "config.yaml"
    config.write_text(config.read_text("utf-8") + f'{ATTACK!r}: "{ATTACK}"\n', encoding="utf-8")
    append_jsonl(first / "alarms.jsonl", {"id": ATTACK, "step": 3, "seen": "", "cause": ""})
    page = opened(first, second, third)
    assert page.page.locator("h2").first.inner_text().split(maxsplit=1)[1] == ATTACK
    text = page.page.locator("main").inner_text()
    assert text.count(ATTACK) >= 6
    legend = page.page.locator("figure").first.locator(".series .name").all_inner_texts()
    assert legend == [f"A {ATTACK}", "B script><script>alert(2)</run", "C other/run"]
    assert page.page.locator("img").count() == 0
    assert page.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_and_can_be_read(
    runs: tuple[Path, Path], opened: Callable[..., Opened], in_browser: Any, width: int, scheme: str
) -> None:
    page = opened(*runs, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert in_browser.overflow(page.page) == 0
    assert [one for one in in_browser.contrasts(page.page) if one[0] < 4.5] == []
    assert in_browser.faults(page.page) == []
    reached = in_browser.reached_by_keys(page.page)
    assert sorted(set(in_browser.controls(page.page)) - set(reached)) == []
    assert page.said == []


def test_print_keeps_every_table_and_curve(
    runs: tuple[Path, Path], opened: Callable[..., Opened]
) -> None:
    page = opened(*runs, viewport={"width": 800, "height": 1000})
    page.page.emulate_media(media="print")
    for figure in page.page.locator("figure").all():
        assert figure.locator("svg.chart:visible").count() == 1
    assert page.page.locator("caption:visible").count() >= 4
    assert page.page.locator("button:visible").count() == 0


def test_without_scripts_everything_is_there(
    runs: tuple[Path, Path], opened: Callable[..., Opened]
) -> None:
    page = opened(*runs, java_script_enabled=False)
    assert page.page.locator("svg.chart:visible").count() == 5
    assert page.page.locator("svg.chart:visible .of-run-1 polyline").count() == 4
    assert page.page.locator("table:visible").count() >= 4
