"""One sample in each of the three shapes of a data file, with the same content in all of them.

The official shape puts a line break between a placeholder and the text beside it; Qwen's code
takes it away again. ShareGPT text reaches the model as it is written and the content parts of
OpenAI messages stand for themselves, so neither has one: all three are the same conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Layout = Literal["official", "sharegpt", "openai"]
MediaKind = Literal["image", "video"]
Json = dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFile:
    """An image or a video of a turn; the path is relative to the folder of the data file."""

    kind: MediaKind
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A question with its media, in the order in which the model sees them, and the answer."""

    question: tuple[str | MediaFile, ...]
    answer: str


def write_row(exchanges: Sequence[Exchange], layout: Layout) -> Json:
    """A sample as a row of the data file."""
    if layout == "official":
        return _official(exchanges)
    return _sharegpt(exchanges) if layout == "sharegpt" else _openai(exchanges)


def dataset_info(file_name: str, kinds: Iterable[MediaKind]) -> Json:
    """The declaration of a ShareGPT file in the form of LLaMA-Factory.

    Args:
        file_name: The data file.
        kinds: What its rows list; a column that no row has must not be declared.
    """
    columns = {"messages": "messages"} | {f"{kind}s": f"{kind}s" for kind in sorted(set(kinds))}
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
    }
    declared = {"file_name": file_name, "formatting": "sharegpt", "columns": columns, "tags": tags}
    return {"shapes": declared}


def _media(exchanges: Sequence[Exchange]) -> dict[MediaKind, list[str]]:
    files: dict[MediaKind, list[str]] = {}
    for exchange in exchanges:
        for part in exchange.question:
            if isinstance(part, MediaFile):
                files.setdefault(part.kind, []).append(part.path)
    return files


def _text(exchange: Exchange, separator: str) -> str:
    parts = (f"<{p.kind}>" if isinstance(p, MediaFile) else p for p in exchange.question)
    return separator.join(parts)


def _official(exchanges: Sequence[Exchange]) -> Json:
    row: Json = {
        kind: paths[0] if len(paths) == 1 else paths for kind, paths in _media(exchanges).items()
    }
    turns: list[Json] = []
    for exchange in exchanges:
        turns.append({"from": "human", "value": _text(exchange, "\n")})
        turns.append({"from": "gpt", "value": exchange.answer})
    return row | {"conversations": turns}


def _sharegpt(exchanges: Sequence[Exchange]) -> Json:
    messages: list[Json] = []
    for exchange in exchanges:
        messages.append({"role": "user", "content": _text(exchange, "")})
        messages.append({"role": "assistant", "content": exchange.answer})
    media: Json = {f"{kind}s": paths for kind, paths in _media(exchanges).items()}
    return {"messages": messages, **media}


def _openai(exchanges: Sequence[Exchange]) -> Json:
    messages: list[Json] = []
    for exchange in exchanges:
        content = [
            {"type": p.kind, p.kind: p.path}
            if isinstance(p, MediaFile)
            else {"type": "text", "text": p}
            for p in exchange.question
        ]
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": exchange.answer})
    return {"messages": messages}
