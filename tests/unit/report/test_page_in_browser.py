"""The page of a run in a real browser: charts that answer, galleries, keys, themes and print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.report.demo import render_demo
from sightline.report.page import render_run

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

# Still charts whose text leaves them, or whose lines cannot be seen.
_CUT = """() => [...document.querySelectorAll("figure > .chart.only-wide")].flatMap((chart) => {
  const outer = chart.getBoundingClientRect();
  const texts = [...chart.querySelectorAll("text")].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.right > outer.right + 1 || box.left < outer.left - 1;
  });
  const lines = [...chart.querySelectorAll("polyline")]
    .filter((one) => getComputedStyle(one).stroke === "none");
  return [...texts.map((one) => one.textContent), ...lines.map(() => "a line without colour")];
})"""
WIDE = {"width": 1280, "height": 900}
Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, whole_maker: Any) -> Path:
    """The page of a run with everything that a page can show."""
    return render_run(whole_maker.make_whole_run(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Opens a page, and fails the test where its console had anything to say."""
    said: list[str] = []
    contexts = []

    def open_page(path: Path, **settings: Any) -> Any:
        context = browser.new_context(**({"viewport": WIDE} | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        page.said = said
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def _plot(page: Any, title: str = "Loss") -> Any:
    return page.locator(f'.plot[aria-label^="{title}."]')


def _ticks(page: Any, title: str = "Loss", axis: str = "x") -> list[str]:
    return _plot(page, title).locator(f".{axis}-tick").all_text_contents()


def _drag(page: Any, plot: Any, begin: float, end: float) -> None:
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * begin, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (begin + end) / 2, y)
    page.mouse.move(box["x"] + box["width"] * end, y)
    page.mouse.up()


def test_the_page_opens_and_its_charts_answer(opened: Opened, report: Path) -> None:
    page = opened(report)
    assert page.locator("figure.live").count() == 7
    titles = page.locator(".plot").evaluate_all(
        "all => all.map((one) => one.getAttribute('aria-label').split('.')[0])"
    )
    assert titles == [
        "Loss",
        "Answers to held-out data",
        "Gradient norm",
        "Weight change",
        "Learning rate",
        "Tokens a second",
        "Memory, MiB",
    ]


def test_the_verdict_is_one_line_of_a_wide_page(opened: Opened, report: Path) -> None:
    page = opened(report)
    headline = page.locator(".verdict p").first
    assert headline.inner_text() == "The exported model is the model that was trained"
    assert headline.bounding_box()["height"] < 60
    assert headline.bounding_box()["width"] > 600


def test_an_error_of_a_script_is_seen_by_these_tests(opened: Opened, report: Path) -> None:
    page = opened(report)
    page.evaluate("setTimeout(() => { throw new Error('planted') })")
    page.wait_for_timeout(50)
    assert page.said == ["planted"]
    page.said.clear()


def test_another_script_does_not_run(opened: Opened, report: Path, tmp_path: Path) -> None:
    html = report.read_text(encoding="utf-8")
    copy = tmp_path / "planted.html"
    copy.write_text(html.replace("<footer>", "<script>window.ran = 1</script><footer>"), "utf-8")
    page = opened(copy)
    assert page.evaluate("window.ran") is None
    [refusal] = page.said
    assert "Content Security Policy" in refusal
    page.said.clear()


def test_hovering_shows_the_values_of_every_series(opened: Opened, report: Path) -> None:
    page = opened(report)
    plot = _plot(page)
    plot.scroll_into_view_if_needed()
    plot.hover()
    tip = plot.locator(".tip")
    assert tip.is_visible()
    assert re.search(r"step 29\b", tip.inner_text())
    assert re.search(r"train\s+[\d.e-]+", tip.inner_text())
    assert re.search(r"held out\s+[\d.e-]+\s+at 30", tip.inner_text())
    # The line goes along in every chart.
    assert page.locator(".cursor line").count() == 7
    page.mouse.move(5, 5)
    assert not tip.is_visible()


def test_arrow_keys_read_values_aloud(opened: Opened, report: Path) -> None:
    page = opened(report)
    _plot(page).focus()
    told = page.locator(".told").first
    page.keyboard.press("Home")
    assert told.inner_text().startswith("step 1: train 6")
    page.keyboard.press("ArrowRight")
    assert told.inner_text().startswith("step 2: train ")
    page.keyboard.press("End")
    assert told.inner_text() == "step 60: train 6.4e-4, held out 0.01"
    page.keyboard.press("ArrowLeft")
    assert "held out 0.01 at 60" in told.inner_text()
    assert told.get_attribute("aria-live") == "polite"


def test_a_drag_zooms_and_escape_shows_everything(opened: Opened, report: Path) -> None:
    page = opened(report)
    whole = _ticks(page), _ticks(page, axis="y")
    _drag(page, _plot(page), 0.5, 0.7)
    zoomed = _ticks(page), _ticks(page, axis="y")
    assert zoomed[0] != whole[0]
    assert zoomed[1] != whole[1]
    assert min(int(tick) for tick in zoomed[0]) > 25
    # Other charts keep their view.
    assert _ticks(page, "Gradient norm")[-1] == "60"
    page.keyboard.press("Escape")
    assert (_ticks(page), _ticks(page, axis="y")) == whole


def test_keys_the_wheel_and_a_double_click_zoom_too(opened: Opened, report: Path) -> None:
    page = opened(report)
    whole = _ticks(page)
    plot = _plot(page)
    plot.focus()
    page.keyboard.press("+")
    assert _ticks(page) != whole
    page.keyboard.press("-")
    assert _ticks(page) == whole
    plot.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.locator("figure.zoomed").first.wait_for()
    assert _ticks(page) != whole
    plot.dblclick()
    assert _ticks(page) == whole
    page.mouse.wheel(0, 40)  # without Ctrl the page scrolls
    assert _ticks(page) == whole


def test_the_button_shows_all_steps_again(opened: Opened, report: Path) -> None:
    page = opened(report)
    whole = _ticks(page)
    button = page.get_by_role("button", name="Show all steps").first
    assert not page.locator("button.reset").first.is_visible()
    _drag(page, _plot(page), 0.2, 0.4)
    button.click()
    assert _ticks(page) == whole
    assert page.evaluate("document.activeElement.classList.contains('plot')")


def test_the_legend_hides_and_shows_a_series(opened: Opened, report: Path) -> None:
    page = opened(report)
    button = page.get_by_role("group", name="Series of Loss").get_by_role("button", name="held out")
    lines = _plot(page).locator("polyline")
    assert lines.count() == 2
    button.click()
    assert (button.get_attribute("aria-pressed"), lines.count()) == ("false", 1)
    _plot(page).focus()
    page.keyboard.press("End")
    assert page.locator(".told").first.inner_text() == "step 60: train 6.4e-4"
    button.click()
    assert (button.get_attribute("aria-pressed"), lines.count()) == ("true", 2)


def test_the_axis_of_values_can_be_made_linear(opened: Opened, report: Path) -> None:
    page = opened(report)
    before = _ticks(page, axis="y")
    page.get_by_role("group", name="Series of Loss").get_by_role("button", name="Log").click()
    after = _ticks(page, axis="y")
    assert "0.01" in before
    assert after[0] == "0"
    assert "0.01" not in after


def test_new_data_of_a_running_run_are_drawn(opened: Opened, report: Path) -> None:
    page = opened(report)
    page.evaluate("""() => {
      const figure = document.querySelector("figure.live");
      const data = JSON.parse(figure.querySelector(".chart-data").textContent);
      data.series = [{name: "train", key: "loss", x: [1, 500], y: [3, 1]}];
      figure.dispatchEvent(new CustomEvent("chart-data", {detail: data}));
    }""")
    assert _ticks(page)[-1] == "500"
    assert _plot(page).locator("polyline").count() == 1


def test_curves_of_the_demo_answer_too(
    opened: Opened, in_browser: Any, tmp_path: Path, maker: Any
) -> None:
    families = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    runs = [maker.make_run(tmp_path / family, family=family) for family in families]
    page = opened(render_demo(runs, tmp_path / "report.html"))
    _plot(page, "Loss of Qwen2-VL").focus()
    page.keyboard.press("End")
    assert page.locator(".told").first.inner_text().startswith("step 50: train 6.4e-4")
    assert page.locator(".cursor line").count() == 3
    assert in_browser.faults(page) == []
    assert in_browser.contrasts(page)[0][0] >= 4.5


def _scores(page: Any, gallery: Any) -> list[float]:
    return gallery.locator("article.sample:visible").evaluate_all(
        "all => all.map((one) => Number(one.dataset.score))"
    )


def test_samples_are_put_in_order_by_how_well_boxes_fit(opened: Opened, report: Path) -> None:
    page = opened(report)
    gallery = page.locator(".gallery").first
    worst = _scores(page, gallery)
    assert worst == sorted(worst)
    assert worst[0] < worst[-1]
    order = gallery.get_by_label("Order")
    order.select_option("best")
    assert _scores(page, gallery) == sorted(worst, reverse=True)
    order.select_option("file")
    places = gallery.locator("article").evaluate_all(
        "all => all.map((one) => Number(one.dataset.place))"
    )
    assert places == list(range(6))


def test_only_wrong_samples_and_only_some_boxes(opened: Opened, report: Path) -> None:
    page = opened(report)
    gallery = page.locator(".gallery").first
    samples = gallery.locator("article.sample:visible")
    assert samples.count() == 6
    gallery.get_by_label("only wrong").check()
    assert samples.count() == 2
    assert gallery.get_by_role("status").inner_text() == "2 of 6 shown"
    gallery.get_by_label("only wrong").uncheck()
    for kind in ("annotated", "predicted", "before"):
        drawn = gallery.locator(f".picture rect.{kind}:visible")
        assert drawn.count() > 0
        gallery.get_by_label(kind, exact=True).uncheck()
        assert drawn.count() == 0


def test_rows_of_the_ledger_by_fate(opened: Opened, report: Path) -> None:
    page = opened(report)
    page.get_by_text("did not train as they are").first.click()
    rows = page.locator("#changed tr:visible")
    assert rows.count() == 2
    page.locator("select[data-rows]").select_option("dropped")
    assert rows.all_inner_texts()[0].split("\t")[1] == "dropped: shrink"
    assert rows.count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(
    opened: Opened, report: Path, in_browser: Any, scheme: str
) -> None:
    page = opened(report, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    _plot(page).hover()
    found = in_browser.contrasts(page)
    assert len(found) > 300
    assert [one for one in found if one[0] < 4.5] == []
    page.add_style_tag(content="h2 { color: #777 !important; }")
    assert in_browser.contrasts(page)[0][0] < 4.5


def test_the_theme_is_changed_by_its_button_on_this_page_alone(
    opened: Opened, report: Path, in_browser: Any
) -> None:
    page = opened(report)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) != light
    assert in_browser.contrasts(page)[0][0] >= 4.5
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == light
    page.get_by_role("button", name="Dark").click()
    page.reload()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == light


def test_headings_pictures_and_tables_can_be_heard(
    opened: Opened, report: Path, in_browser: Any
) -> None:
    page = opened(report)
    assert in_browser.faults(page) == []
    for planted, fault in (
        ("document.body.append(new Image())", "img without alt"),
        ("document.querySelector('svg.picture').removeAttribute('aria-label')", "svg without"),
        ("document.querySelector('button.theme').textContent = ''", "BUTTON without a name"),
        ("document.querySelector('h2').outerHTML = '<h4>x</h4>'", "h4 after h1"),
        ("document.querySelector('th').removeAttribute('scope')", "th without scope"),
    ):
        page.evaluate(planted)
        assert any(one.startswith(fault) for one in in_browser.faults(page)), planted


def test_keys_alone_reach_every_control(opened: Opened, report: Path, in_browser: Any) -> None:
    page = opened(report)
    reached = in_browser.reached_by_keys(page)
    assert sorted(reached) == sorted(in_browser.controls(page))
    assert len(reached) > 40
    page.evaluate("document.querySelector('select.order').tabIndex = -1")
    assert sorted(in_browser.reached_by_keys(page)) != sorted(in_browser.controls(page))


def test_focus_is_seen(opened: Opened, report: Path) -> None:
    page = opened(report)
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate("""() => {
          const style = getComputedStyle(document.activeElement);
          return [style.outlineStyle, parseFloat(style.outlineWidth)];
        }""")
        assert style == ["solid", 3]


def test_print_has_every_section_and_nothing_to_press(opened: Opened, report: Path) -> None:
    page = opened(report)
    page.get_by_role("button", name="Dark").click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("h2").all_inner_texts() == [
        "What was trained, on what",
        "Course of the training",
        "Evaluation",
        "Parameters",
        "Proof of the plan",
        "Certificate",
        "Samples",
    ]
    assert all(one.is_visible() for one in page.locator("main > section").all())
    for gone in ("nav", ".plot", ".legend", ".theme", "select", "input"):
        assert page.locator(f"{gone}:visible").count() == 0, gone
    assert page.locator(".chart.only-wide:visible").count() == 7
    assert page.evaluate(_CUT) == []
    assert page.locator("details:not([open])").count() == 0
    for text in ("largest difference", "shapes/train.jsonl:5", "learning_rate: 0.008"):
        assert page.get_by_text(text).first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(
    opened: Opened, report: Path, in_browser: Any, width: int
) -> None:
    page = opened(report, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    _plot(page).hover()
    assert in_browser.overflow(page) == 0
    page.evaluate("document.querySelector('h2').style.minWidth = '2000px'")
    assert in_browser.overflow(page) > 500


def test_without_scripts_everything_is_there_to_read(opened: Opened, report: Path) -> None:
    page = opened(report, java_script_enabled=False)
    assert page.locator("figure > .chart.only-wide").count() == 7
    for one in page.locator("figure > .chart.only-wide").all():
        assert one.is_visible()
    assert page.locator("button:visible, select:visible").count() == 0
    gallery = page.locator(".gallery").first
    gallery.get_by_label("only wrong").check()
    assert gallery.locator("article.sample:visible").count() == 2
