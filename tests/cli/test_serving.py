"""The exported folder behind `transformers serve`: over HTTP the same words as through generate.

Needs what ``pip install 'transformers[serving]'`` brings; skips, and says so, without it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

for _package in ("fastapi", "uvicorn", "openai"):
    pytest.importorskip(_package, reason="transformers serve needs transformers[serving]")

_START_SECONDS = 120
_ANSWER_SECONDS = 60


class Answered(NamedTuple):
    """What the server said."""

    text: str
    num_prompt_tokens: int


Ask = Callable[..., Answered]


@pytest.fixture(scope="module")
def ask(
    learned: Any,
    started: Callable[..., subprocess.Popen[str]],
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Iterator[Ask]:
    """Ask a server that runs the merged model, on a port of its own."""
    port = free_port()
    command = ["serve", learned.run / "merged", "--port", port, "--host", "127.0.0.1"]
    server = started(
        *("-m", "transformers.cli.transformers", *command, "--device", "cpu"),
        cwd=tmp_path_factory.mktemp("server"),
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/health", server)
        yield lambda content, **body: _answer(f"{address}/v1/chat/completions", content, body)
    finally:
        server.terminate()
        try:
            server.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.communicate()


def _wait(address: str, server: subprocess.Popen[str]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.fail(f"the server ended: {server.communicate()[1][-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"the server does not answer after {_START_SECONDS} s")


def _answer(address: str, content: list[dict[str, Any]], body: dict[str, Any]) -> Answered:
    request = urllib.request.Request(
        address,
        data=json.dumps(
            {"messages": [{"role": "user", "content": content}], "temperature": 0.0} | body
        ).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:
        said = json.loads(response.read())
    return Answered(said["choices"][0]["message"]["content"], said["usage"]["prompt_tokens"])


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture(scope="module")
def plain(learned: Any) -> Callable[..., Answered]:
    """The same question through plain transformers: processor, generate, decode."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = learned.run / "merged"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()
    processor = AutoProcessor.from_pretrained(folder)

    def generated(content: list[dict[str, Any]], max_new_tokens: int) -> Answered:
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        width = inputs["input_ids"].shape[1]
        with torch.no_grad():
            made = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        text = processor.decode(made[0, width:], skip_special_tokens=True)
        return Answered(text, width)

    return generated


def test_a_picture_over_http_is_answered_as_through_generate(
    ask: Ask, plain: Callable[..., Answered], learned: Any
) -> None:
    """The picture as base64, as OpenAI's clients send it: the annotation, word by word."""
    text = {"type": "text", "text": learned.question}
    image = {"type": "image_url", "image_url": {"url": _data_uri(learned.picture)}}
    served = ask([image, text], max_tokens=128)
    own = plain([{"type": "image", "path": str(learned.picture)}, text], 128)
    assert served == own
    assert served.text == learned.answer


def test_what_is_not_known_by_heart_is_answered_alike_too(
    ask: Ask, plain: Callable[..., Answered], learned: Any, shapes_folder: Path
) -> None:
    """Two other pictures and a question that nobody taught."""
    first, second = sorted((shapes_folder / "images").glob("*.png"))[1:3]
    text = {"type": "text", "text": "Which of them is larger?"}
    images = [
        {"type": "image_url", "image_url": {"url": _data_uri(one)}} for one in (first, second)
    ]
    served = ask([*images, text], max_tokens=24)
    own = plain([*({"type": "image", "path": str(one)} for one in (first, second)), text], 24)
    assert served == own
    assert served.text != learned.answer


def test_a_picture_is_seen(ask: Ask, learned: Any, shapes_folder: Path) -> None:
    """The control: another picture, and without one, are other answers."""
    text = {"type": "text", "text": learned.question}
    other = sorted((shapes_folder / "images").glob("*.png"))[1]
    image = {"type": "image_url", "image_url": {"url": _data_uri(other)}}
    assert ask([image, text], max_tokens=128).text != learned.answer
    alone = ask([text], max_tokens=128)
    assert alone.text != learned.answer
    assert alone.num_prompt_tokens < 60
