"""The live page of a run in a browser, while the run goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sightline.records import append_jsonl, claimed, write_json, write_text
from sightline.report.moment import FollowedRun
from sightline.report.watch_server import serving

SECONDS = 60
ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture
def run(tmp_path: Path, maker: ModuleType) -> Iterator[Path]:
    """A run that trains, at step 20 of 50; the rest of its records lie beside it."""
    done = maker.make_run(tmp_path / "done")
    run = tmp_path / "run"
    run.mkdir()
    state = json.loads((done / "run.json").read_text("utf-8"))
    write_json(run / "run.json", state | {"state": "training", "finished": None})
    plan = json.loads((done / "plan.json").read_text("utf-8"))
    write_json(run / "plan.json", plan | {"schedule": {"num_steps": 50}})
    (run / "config.yaml").write_bytes((done / "config.yaml").read_bytes())
    for line in _lines(done)[:20]:
        append_jsonl(run / "metrics.jsonl", line)
    with claimed(run, print):
        yield run


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


class Page:
    """The live page of a run in a browser, and what its console said."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))

    def wait(self, condition: str) -> None:
        """Until an expression holds; the policy of the page lets no function wait in it."""
        end = time.monotonic() + SECONDS
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"{condition}; the console said {self.said}"
            self.page.wait_for_timeout(50)

    def text(self, selector: str) -> str:
        """Text of the first element that is found."""
        return self.page.locator(selector).first.inner_text()

    def points(self, chart: str, series: str) -> int:
        """Points of a line."""
        line = self.page.locator(f"#{chart} .plot .of-{series} polyline").get_attribute("points")
        return len(line.split())


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Page]]:
    """Opens the live page of a run."""
    closing: list[Any] = []

    def open_page(run: Path, **options: Any) -> Page:
        server = serving(FollowedRun(run), None)
        port = server.__enter__()
        context = browser.new_context(**options)
        closing.append((context, server))
        page = Page(context.new_page())
        page.page.goto(f"http://127.0.0.1:{port}/", timeout=1000 * SECONDS)
        return page

    yield open_page
    for context, server in closing:
        context.close()
        server.__exit__(None, None, None)


def test_the_page_grows_with_the_run_and_ends_in_its_verdict(
    run: Path, opened: Callable[..., Page]
) -> None:
    page = opened(run)
    page.wait("document.querySelector('#title').textContent === 'Training: step 19 of 50'")
    assert page.points("chart-loss", "loss") == 19
    assert page.page.locator("#alarms").is_hidden()
    assert page.page.locator("#certificate-section").is_hidden()

    rest = _lines(run.parent / "done")[20:]
    append_jsonl(run / "metrics.jsonl", rest[0])
    page.wait("document.querySelector('#title').textContent === 'Training: step 20 of 50'")
    assert page.points("chart-loss", "loss") == 20
    assert page.page.title() == "40 % run: Training: step 20 of 50"

    alarm = {"id": "a", "step": 20, "seen": f"seen {ATTACK}", "cause": "why", "remedy": "mend"}
    append_jsonl(run / "alarms.jsonl", alarm)
    page.wait("!document.querySelector('#alarms').hidden")
    assert f"Step 20: seen {ATTACK}." in page.text("#alarms")
    assert "Remedy. mend" in page.text("#alarms")

    for line in rest[1:]:
        append_jsonl(run / "metrics.jsonl", line)
    for name in ("certificate.json", "run.json"):
        write_text(run / name, (run.parent / "done" / name).read_text("utf-8"))
    page.wait("document.querySelector('#state').className === 'verdict holds'")
    assert page.text("#title") == "The exported model is the model that was trained"
    assert page.page.locator("#checks tr").count() == 7
    assert page.points("chart-loss", "loss") == 50
    assert page.page.locator("#quiet").is_hidden()
    assert page.said == []


def test_zoom_scroll_focus_and_what_is_hidden_stay(run: Path, opened: Callable[..., Page]) -> None:
    page = opened(run, viewport={"width": 900, "height": 500})
    page.wait("document.querySelector('#chart-loss .plot polyline')")
    plot = page.page.locator("#chart-loss .plot")
    plot.focus()
    plot.press("+")
    page.page.locator("#chart-loss .series", has_text="held out").click()
    ticks = page.page.locator("#chart-loss .x-tick").all_text_contents()
    page.page.evaluate("window.kept = document.activeElement; scrollTo(0, 300)")
    for line in _lines(run.parent / "done")[20:40]:
        append_jsonl(run / "metrics.jsonl", line)
    page.wait("document.querySelector('#title').textContent === 'Training: step 37 of 50'")
    assert page.page.locator("#chart-loss .x-tick").all_text_contents() == ticks
    assert page.page.locator("#chart-loss .plot .of-held").count() == 0
    assert page.page.evaluate("scrollY") == 300
    assert page.page.evaluate("document.activeElement === window.kept && kept !== document.body")
    # Everything again, with what came in between.
    page.page.locator("#chart-loss .reset").click()
    assert page.page.locator("#chart-loss .x-tick").last.text_content() == "35"
    assert page.said == []


def test_a_run_that_is_not_there_yet_is_waited_for(run: Path, opened: Callable[..., Page]) -> None:
    page = opened(run.parent / "later")
    page.wait("document.querySelector('#title').textContent === 'Waiting for the run'")
    assert page.text("#no-course") == "No step is logged yet."
    run.rename(run.parent / "later")
    page.wait("document.querySelector('#title').textContent === 'Training: step 19 of 50'")
    # The loss spans four decades: its axis is chosen when it is there.
    assert page.page.locator("#chart-loss").is_visible()
    assert page.said == []


def test_a_resumed_run_takes_its_points_back(run: Path, opened: Callable[..., Page]) -> None:
    page = opened(run)
    page.wait("document.querySelector('#title').textContent === 'Training: step 19 of 50'")
    kept = (run / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)[:8]
    write_text(run / "metrics.jsonl", "".join(kept))
    page.wait("document.querySelector('#title').textContent === 'Training: step 8 of 50'")
    assert page.points("chart-loss", "loss") == 8
    assert page.said == []


def test_a_silent_run_and_an_ended_server_are_said(
    run: Path, browser: Any, free_port: Callable[[], int]
) -> None:
    # Not the first from 8765: another test's server could have it when this one comes back.
    port = free_port()
    late = max(one.stat().st_mtime for one in run.iterdir()) + 3600
    context = browser.new_context()
    page = Page(context.new_page())
    with serving(FollowedRun(run, clock=lambda: late), port):
        page.page.goto(f"http://127.0.0.1:{port}/")
        page.wait("!document.querySelector('#quiet').hidden")
        assert page.text("#quiet").startswith("Nothing was written for 1 h 00 min.")
        assert f"sightline resume {run}" in page.text("#quiet")
        # A server that has nothing new to say is there all the same.
        page.page.wait_for_timeout(2500)
        assert page.page.locator("#lost").is_hidden()
        assert page.said == []
    page.wait("!document.querySelector('#lost').hidden")
    assert "The watching has ended." in page.text("#lost")
    assert page.text("#title") == "Training: step 19 of 50"
    with serving(FollowedRun(run), port):
        page.wait("document.querySelector('#lost').hidden")
        assert page.points("chart-loss", "loss") == 19
    context.close()


def test_everything_of_a_run_is_shown_as_text(
    tmp_path: Path, maker: ModuleType, opened: Callable[..., Page]
) -> None:
    run = maker.make_run(tmp_path / ATTACK, fails=True)
    maker.rewrite(run / "run.json", model=ATTACK, device=ATTACK)
    record = json.loads((run / "certificate.json").read_text("utf-8"))
    for check in record["checks"]:
        check |= {"title": ATTACK, "measured": ATTACK, "detail": ATTACK, "advice": ATTACK}
    write_json(run / "certificate.json", record)
    line = {"step": 51, "loss": 1.0, "grad_norm_by_tower": {ATTACK: 1.0}, f"eval_{ATTACK}": 0.5}
    append_jsonl(run / "metrics.jsonl", line)
    append_jsonl(run / "metrics.jsonl", {"step": ATTACK})
    page = opened(run)
    page.wait("document.querySelectorAll('#checks tr').length === 7")
    for selector in ("h1", "#failing", "#facts", "#checks", "#measures-table", "#chart-gradients"):
        assert ATTACK in page.text(selector), selector
    assert "metrics.jsonl:57: the line is broken" in page.text("#faults")
    assert page.page.locator("img").count() == 0
    assert page.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_and_can_be_read(
    tmp_path: Path,
    maker: ModuleType,
    opened: Callable[..., Page],
    width: int,
    scheme: str,
    in_browser: Any,
) -> None:
    run = maker.make_run(tmp_path / "run", fails=True)
    alarm = {"id": "a", "step": 20, "seen": "seen", "cause": "why", "remedy": "mend"}
    append_jsonl(run / "alarms.jsonl", alarm)
    page = opened(run, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.wait("document.querySelectorAll('#checks tr').length === 7")
    assert in_browser.overflow(page.page) == 0
    assert [one for one in in_browser.contrasts(page.page) if one[0] < 4.5] == []
    assert in_browser.faults(page.page) == []
    assert page.said == []


def test_keys_reach_every_control(run: Path, opened: Callable[..., Page], in_browser: Any) -> None:
    page = opened(run)
    page.wait("document.querySelector('#chart-loss .plot polyline')")
    reached = in_browser.reached_by_keys(page.page)
    assert len(reached) > 5
    assert sorted(set(in_browser.controls(page.page)) - set(reached)) == []
