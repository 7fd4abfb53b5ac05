"""Which texts hold coordinates, that a smaller picture would make wrong."""

from __future__ import annotations

import pytest

from sightline.data.fit.shrinking import has_coordinates

HOLD = [
    '[{"bbox_2d": [15, 116, 65, 164], "label": "star"}]',
    "[{'bbox_2d': [15.5,116,65,164]}]",
    '{"point_2d": [15, 116], "label": "nose"}',
    '```json\n[\n\t{"bbox_2d": [\n 15, 116, 65, 164]}\n]```',
    "<|box_start|>(15,116),(65,164)<|box_end|>",
    "It is at [15, 116, 65, 164].",
    "It is at (15, 116, 65, 164).",
    "from (15,116) (65,164)",
]
DO_NOT = [
    "Report bbox_2d coordinates in JSON.",
    "Locate every object and report bbox_2d coordinates and label in JSON format.",
    '{"bbox_2d": ',
    ', "label": "star"}]',
    "There are 4 birds, 3 cats (2 of them black), and 1 dog.",
    "In [1, 2] and [3], points are scored.",
    "f(1, 2) is 3",
]


@pytest.mark.parametrize("text", HOLD)
def test_coordinates_are_found(text: str) -> None:
    assert has_coordinates(text)


@pytest.mark.parametrize("text", DO_NOT)
def test_words_and_other_numbers_are_none(text: str) -> None:
    assert not has_coordinates(text)
