"""Pages show no key and no password, wherever in the records one stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.report.page import render_run

KEY = "hf_" + "aB3" * 12


def test_a_key_in_the_records_is_not_on_the_page(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    config = run / "config.yaml"
    config.write_text(f"# {KEY}\n" + config.read_text("utf-8"), encoding="utf-8")
    changed = 0
    for path in run.rglob("*.json"):
        text = path.read_text("utf-8")
        told = json.loads(text, object_hook=_with_key)
        changed += json.dumps(told) != json.dumps(json.loads(text))
        path.write_text(json.dumps(told), encoding="utf-8")
    assert changed > 1
    page = render_run(run).read_text("utf-8")
    assert KEY not in page
    assert "me:word" not in page
    assert page.count("[hidden]") > 2


def _with_key(told: dict[str, Any]) -> dict[str, Any]:
    """With a key behind what people wrote."""
    shown = ("prompt", "question", "expected", "found", "answer", "advice", "detail", "measured")
    return {
        name: f"{value} {KEY} s3://me:word@host"
        if name in shown and isinstance(value, str)
        else value
        for name, value in told.items()
    }
