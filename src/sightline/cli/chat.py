"""``sightline chat``: a conversation with an exported model, pictures and videos by path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from sightline.cli.console import make_console, quiet_libraries, user_errors
from sightline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sightline.evaluation.chat import Chat

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_VIDEOS = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v"})
_HELP = """\
  /image PATH   show a picture with the next question
  /video PATH   show a video with the next question
  /clear        begin anew
  /quit         leave; so does Ctrl-D
A path that stands in a question is shown, too."""


class Line(NamedTuple):
    """A line of a conversation.

    Attributes:
        text: The question, without what was taken out of it.
        images: Pictures that it names.
        videos: Videos that it names.
    """

    text: str
    images: list[Path]
    videos: list[Path]


def chat_command(
    source: str,
    *,
    message: str | None,
    images: list[Path],
    videos: list[Path],
    boxes: Path | None,
    max_new_tokens: int,
    temperature: float,
) -> int:
    """Talk with a model: one question where a message is given, else until the lines end."""
    with user_errors():
        for path in (*images, *videos):
            _refuse_missing(path)
        if message is not None and not message.strip():
            raise ConfigError("--message is empty: write the question.")
        quiet_libraries()
        from sightline.evaluation.chat import Chat
        from sightline.evaluation.serving import load_served, served

        console = make_console(stderr=True)
        with console.status(f"loading {source}"):
            named = served(source)
            checkpoint = named.checkpoint()
            loaded = load_served(named, checkpoint, precision="auto", takes_raw=False)
        chat = Chat(loaded, checkpoint, max_new_tokens=max_new_tokens, temperature=temperature)
        if message is not None:
            _ask(chat, Line(message, images, videos), boxes)
            return 0
        console.print(
            f"{checkpoint.family.title}, {named.title}\n{_HELP}",
            markup=False,
            soft_wrap=True,
        )
        _converse(chat, console, Line("", images, videos), boxes)
    return 0


def read_line(line: str) -> Line:
    """A question, with the files that it names taken out of it.

    Only a word that is the path of a file that is there counts: a question may speak of names.

    Args:
        line: What was typed.
    """
    words: list[str] = []
    images: list[Path] = []
    videos: list[Path] = []
    for word in line.split(" "):
        path = Path(word.strip("'\""))
        kind = path.suffix.lower()
        if kind in _PICTURES | _VIDEOS and path.is_file():
            (images if kind in _PICTURES else videos).append(path)
        else:
            words.append(word)
    return Line(" ".join(words).strip(), images, videos)


def _converse(chat: Chat, console: Console, first: Line, boxes: Path | None) -> None:
    images, videos = list(first.images), list(first.videos)
    while (line := _typed()) is not None:
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return
        try:
            if command == "/clear":
                chat.clear()
                images, videos = [], []
            elif command in ("/image", "/video"):
                path = Path(rest.strip())
                _refuse_missing(path)
                (images if command == "/image" else videos).append(path)
            elif command.startswith("/") and not Path(command).exists():
                console.print(_HELP, markup=False)
            elif command:
                said = read_line(line)
                _ask(chat, Line(said.text, images + said.images, videos + said.videos), boxes)
                images, videos = [], []
        except (ConfigError, DataError) as error:
            # One wrong path does not end a conversation.
            console.print(f"sightline: {error}", markup=False, soft_wrap=True)


def _typed() -> str | None:
    """The next line; None where there is none."""
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line if line else None


def _ask(chat: Chat, line: Line, boxes: Path | None) -> None:
    """Ask, show the answer as it comes, and draw its boxes."""
    say: Callable[[str], None] = lambda text: print(text, end="", flush=True)  # noqa: E731
    answer = chat.ask(line.text, images=line.images, videos=line.videos, on_text=say)
    print(flush=True)
    if chat.picture is None:
        return
    from sightline.evaluation import boxes_in_file
    from sightline.report.drawn_boxes import draw_boxes

    picture, frame = chat.picture
    found = boxes_in_file(answer, frame)
    if found:
        path = boxes or Path(f"{picture.stem}.boxes.png")
        draw_boxes(picture, found, path)
        num = len(found)
        print(f"{num} box{'es' * (num != 1)} drawn: {path}", file=sys.stderr, flush=True)


def _refuse_missing(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file. Name it from {Path.cwd()}.")
