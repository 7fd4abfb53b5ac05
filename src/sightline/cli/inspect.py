"""``sightline inspect positions``: a look at where a sample's tokens stand."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sightline.cli.console import make_console, quiet_libraries, user_errors
from sightline.errors import ConfigError
from sightline.report.positions import DrawnPositions, positions_text

if TYPE_CHECKING:
    from sightline.positions import Layout, Positions

_ITEM = re.compile(
    r"(?P<text>\d+)|(?P<kind>image|video):(?P<grid>\d+x\d+x\d+)"
    r"(@(?P<seconds>\d+(\.\d+)?))?(\+(?P<stamps>\d+))?"
)


def positions_command(
    config: Path | None,
    *,
    sample: int,
    family: str | None,
    layout: str | None,
    output: Path | None,
    overrides: list[str],
) -> int:
    """Draw a sample of a run's data, or a layout that was typed."""
    console = make_console()
    with user_errors():
        quiet_libraries()
        if (config is None) == (layout is None) or (layout is None) != (family is None):
            raise ConfigError(
                "name a configuration, or give --family and --layout: for example\n"
                "  sightline inspect positions --family qwen2_5_vl "
                '--layout "8 image:1x16x24 20 video:30x16x24@1.0 12"'
            )
        if config is not None:
            drawn = _of_sample(config, sample, overrides)
        else:
            assert family is not None
            assert layout is not None
            drawn = _of_layout(family, layout)
        print(positions_text(drawn, width=console.width))
        if output is not None:
            from sightline.report.positions_plot import plot_positions

            plot_positions(drawn, output)
            print(f"\npicture {output}")
        return 0


def read_layout(words: str) -> list[Any]:
    """Items of a typed layout: ``8`` text, ``image:1x16x24``, ``video:30x16x24@1.0``.

    A number after ``+`` is the text before every grid of a video, for families that write it.

    Raises:
        ConfigError: Names the word that is not one of these.
    """
    from sightline.positions import Image, Text, Video

    items: list[Any] = []
    for word in words.split():
        found = _ITEM.fullmatch(word)
        if found is None or (found["kind"] == "image" and (found["seconds"] or found["stamps"])):
            raise ConfigError(
                f"--layout: {word!r} is none of 8 (text tokens), image:1x16x24, "
                "video:30x16x24@1.0 (seconds a grid), video:8x16x24+7 (text before each grid). "
                "Grids are raw patches: time x height x width."
            )
        if found["text"]:
            items.append(Text(int(found["text"])))
            continue
        t, h, w = (int(side) for side in found["grid"].split("x"))
        if found["kind"] == "image":
            items.append(Image((t, h, w)))
        else:
            seconds = float(found["seconds"]) if found["seconds"] else None
            items.append(Video((t, h, w), seconds, int(found["stamps"] or 0)))
    return items


def _of_layout(family: str, words: str) -> DrawnPositions:
    from sightline.positions import items_layout, mrope_positions

    items = read_layout(words)
    placed = mrope_positions(items, family=family)
    return _drawn(f"{family}: {words}", placed, items_layout(items, family=family))


def _of_sample(path: Path, index: int, overrides: list[str]) -> DrawnPositions:
    from sightline.config import load_config
    from sightline.model import open_checkpoint, resolve_model
    from sightline.positions import build_position_ids
    from sightline.preparation import prepare_sample

    config = load_config(path, overrides)
    with TemporaryDirectory() as folder:  # for a tiny model, which is made on the spot
        source = resolve_model(config.model, Path(folder) / "tiny")
        checkpoint = open_checkpoint(source, config.data)
    sample = prepare_sample(config, checkpoint, index)
    rule = checkpoint.position_rule
    placed = build_position_ids(sample.layout, rule.rope, tokens_per_second=rule.tokens_per_second)
    origin = sample.conversation.origin
    title = f"{origin.file.name}:{origin.line}, {checkpoint.family.title}"
    return _drawn(title, placed, sample.layout)


def _drawn(title: str, placed: Positions, layout: Layout) -> DrawnPositions:
    from sightline.preparation.spans import named_spans

    return DrawnPositions(
        title=title,
        position_ids=placed.position_ids,
        rope_delta=placed.rope_delta,
        spans=named_spans(layout),
    )
