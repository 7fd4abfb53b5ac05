"""A run whose every text holds HTML and script: shown, not run, in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sightline.report.page import render_run

# Ends a string, an attribute, a tag, a script and a data block, and turns the text around it.
_ATTACK = (
    "\"'></textarea></title></style></script><script>window.ran=1</script>"
    "<img src=x onerror=window.ran=2><svg onload=window.ran=3>{{7*7}}\u202e\u2066\u2028&lt;"
)
_SEEN = (
    "\"'></textarea></title></style></script><script>window.ran=1</script>"
    "<img src=x onerror=window.ran=2><svg onload=window.ran=3>{{7*7}}"
    "⟨U+202E⟩⟨U+2066⟩⟨U+2028⟩&lt;"
)
_FOLDER = "run '\"><img src=x onerror=window.ran=4> & \u202e"
# Words by which a record is understood: times, states, and what kind a medium or a fate is.
_KEPT = ("created", "started", "finished", "state", "verdict", "severity", "schema", "kind", "path")
_KEPT_IN = {"plan.json": ("tower", "block", "how"), "evaluation.json": ("predictions", "against")}


# Fields that a page shows, by the file they stand in; planted keys stand for themselves.
_SHOWN = {
    "": "advice detail figure figured measure package setting tower",
    "run.json": "model device",
    "ledger.jsonl": "file reason policies fate",
    "plan.json": "name",
    "alarms.jsonl": "seen cause remedy",
    "certificate.json": "title measured tolerance id",
    "predictions.json": "question label title",
    "proof.json": "name what cause tower",
    "evaluation.json": "title label",
    "answers.jsonl": "prompt label answer",
}


def _shown() -> set[str]:
    return {
        f"{file} {field}".strip() for file, fields in _SHOWN.items() for field in fields.split()
    }


def _planted(value: Any, name: str, place: str = "") -> Any:
    """A record with the attack after every text, marked by its file and place."""
    if isinstance(value, str):
        return f"{value} [{name} {place}] {_ATTACK}"
    if isinstance(value, list):
        return [_planted(one, name, place) for one in value]
    if isinstance(value, dict):
        kept = (*_KEPT, *_KEPT_IN.get(name, ()))
        return {
            key: one if key in kept and isinstance(one, str) else _planted(one, name, key)
            for key, one in value.items()
        }
    return value


def _attacked(run: Path) -> None:
    for path in [*run.glob("*.json"), *run.glob("*.jsonl"), *run.glob("evaluation/*.jsonl")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            path.write_text(json.dumps(_planted(json.loads(text), path.name)), encoding="utf-8")
            continue
        # Both about the same questions: what names them is planted alike.
        name = "answers.jsonl" if path.parent != run else path.name
        rows = [_planted(json.loads(line), name) for line in text.splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _planted_keys(run: Path) -> None:
    """Names that come from elsewhere and stand as keys: towers, measures, figures, packages."""
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    state["versions"][f"[package] {_ATTACK}"] = "1.0"
    (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        for key, value in list(row.items()):
            if key.startswith("eval_"):
                row[f"{key} [measure] {_ATTACK}"] = row.pop(key) if key != "eval_loss" else value
            if key.endswith("_by_tower"):
                row[key] = {f"{tower} [tower] {_ATTACK}": one for tower, one in value.items()}
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    certificate = json.loads((run / "certificate.json").read_text(encoding="utf-8"))
    certificate["checks"][4]["figures"] = {f"[figure] {_ATTACK}": f"[figured] {_ATTACK}"}
    certificate["checks"][4] |= {"holds": False, "detail": f"[detail] {_ATTACK}"}
    certificate["checks"][4]["advice"] = f"[advice] {_ATTACK}"
    (run / "certificate.json").write_text(json.dumps(certificate), encoding="utf-8")
    config = f"model: tiny\ntraining:\n  scheduler: {json.dumps(f'[setting] {_ATTACK}')}\n"
    (run / "config.yaml").write_text(config, encoding="utf-8")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, whole_maker: Any) -> Path:
    """The page of an attacked run."""
    run = whole_maker.make_whole_run(tmp_path_factory.mktemp("attacked") / _FOLDER)
    whole_maker.maker.rewrite(run / "proof.json", **whole_maker.proof_record(fault="q_proj"))
    _attacked(run)
    _planted_keys(run)
    return render_run(run)


@pytest.mark.parametrize("scripted", [True, False])
def test_what_is_planted_is_shown_and_nothing_of_it_runs(
    browser: Any, attacked: Path, scripted: bool
) -> None:
    said: list[str] = []
    context = browser.new_context(java_script_enabled=scripted)
    try:
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url))
        page.goto(attacked.as_uri())
        asked, said[:] = said[0], [one for one in said[1:] if not one.startswith("data:image/")]
        assert asked.startswith("file://")
        if scripted:
            assert page.evaluate("window.ran") is None
            page.locator(".plot").nth(1).hover()
            assert _SEEN in page.locator(".tip:visible").inner_text()
        assert page.locator("img[src='x'], [onerror], [onload]").count() == 0
        assert page.locator("script:not([type])").count() == 3
        text = page.locator("body").text_content()
        assert said == []
    finally:
        context.close()
    # Of files of samples and sources the name is shown, without the folder.
    assert text.count(f"{_SEEN.rpartition('/')[2]}:1") >= 2
    assert re.search(re.escape(_SEEN.rpartition("/")[2]) + r"\s*3", text)
    seen = set(re.findall(r"\[([\w. ]+)\] " + re.escape(_SEEN), text))
    assert _shown() - seen == set()


def test_no_sign_turns_or_hides_text_of_the_page(attacked: Path) -> None:
    html = attacked.read_text(encoding="utf-8")
    assert not set(html) & {"\u202e", "\u2066", "\u2028"}
    assert html.count("⟨U+202E⟩") > 100
