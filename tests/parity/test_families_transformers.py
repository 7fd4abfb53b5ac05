"""Every family against the installed transformers: positions case by case, and the rotary module.

`KNOWN` says exactly where they differ. A newer release that mends a difference, or makes a new
one, fails the test: then the table here, the record's `who_agrees` and docs/positions.md change.
"""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch

from sightline.checks.conformance import call_rope_index, compare_case
from sightline.checks.sequences import CASES, Case, write_case
from sightline.families import FAMILIES
from sightline.model import ReferenceFamily, reference_family
from sightline.positions import Image, Text, place_batch
from sightline.rotary import MRotaryEmbedding, apply_mrope

LATE_VIDEO = {"long video": "differs", "fractional seconds": "differs"}
NO_VIDEO = dict.fromkeys(
    ("short video", "long video", "fractional seconds", "image and video"), "absent"
)
KNOWN: dict[str, dict[str, str]] = {
    "qwen2_vl": LATE_VIDEO,
    "qwen2_5_vl": LATE_VIDEO,
    "qwen3_omni_moe": {"fractional seconds": "refused"},
    # Two grids become one: the long video is as long as it is wide, the other one is longer.
    "ernie4_5_vl_moe": {"fractional seconds": "differs"},
    "paddleocr_vl": NO_VIDEO,
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def reference(request: pytest.FixtureRequest) -> ReferenceFamily:
    return reference_family(FAMILIES[request.param])


def test_every_case_agrees_but_those_that_are_known(reference: ReferenceFamily) -> None:
    found = {case.name: compare_case(case, reference) for case in CASES}
    verdicts = {name: result.verdict for name, result in found.items()}
    expected = dict.fromkeys(verdicts, "agrees") | KNOWN.get(reference.family.key, {})
    assert verdicts == expected, [result.meaning for result in found.values() if result.meaning]


def test_the_minute_of_video_stands_where_the_issue_was_measured() -> None:
    """60 s at 2 frames a second, grid 60 x 34 x 60: 47 by transformers, 136 by Qwen's code."""
    case = next(case for case in CASES if case.name == "long video")
    result = compare_case(case, reference_family(FAMILIES["qwen2_5_vl"]))
    assert (result.theirs, result.ours) == (47, 136)
    assert "placed at 47 instead of 136" in result.meaning


def test_a_shifted_position_would_be_seen(reference: ReferenceFamily, monkeypatch) -> None:
    """The planted fault: a class that places one token elsewhere does not agree."""
    case = CASES[1]
    plain = reference.model.get_rope_index

    def shifted(input_ids, **others):
        positions, deltas = plain(input_ids=input_ids, **others)
        positions[0, 0, -1] += 1
        return positions, deltas

    shifted.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    monkeypatch.setattr(reference.model, "get_rope_index", shifted)
    assert compare_case(case, reference).verdict == "differs"


def test_images_of_random_sizes_are_placed_alike(reference: ReferenceFamily) -> None:
    generator = torch.Generator().manual_seed(3)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    for padding in ("left", "right"):
        rows = []
        for _ in range(4):
            row = [Text(number(1, 9))]
            for _ in range(number(0, 4)):
                row += [Image((1, 2 * number(1, 9), 2 * number(1, 9))), Text(number(1, 9))]
            rows.append(tuple(row))
        inputs = write_case(Case(name="random", rows=tuple(rows), padding=padding), reference)
        theirs, deltas = call_rope_index(reference.model, inputs, reference.rule)
        grids = {key: value for key, value in inputs.items() if key != "input_ids"}
        ours = place_batch(inputs["input_ids"], reference.rule, **grids)
        kept = inputs["attention_mask"].bool()
        assert torch.equal(theirs[:, kept].long(), ours.model_position_ids[1:][:, kept])
        assert torch.equal(deltas.long(), ours.rope_deltas)


def test_the_rotary_output_is_equal(reference: ReferenceFamily) -> None:
    module, config = reference.rotary()
    ours = MRotaryEmbedding.from_config(reference.config)
    positions = torch.randint(0, 32768, (3, 2, 40), generator=torch.Generator().manual_seed(0))
    theirs = module(torch.zeros(1), positions)
    cos, sin = ours(positions)
    assert cos.shape == theirs[0].shape
    assert float((cos - theirs[0]).abs().max()) <= 1e-6
    assert float((sin - theirs[1]).abs().max()) <= 1e-6

    # And what is made of it: the family's own function turns queries and keys alike.
    head_dim = config.head_dim
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, 40, head_dim, generator=generator)
    key = torch.randn(2, 1, 40, head_dim, generator=generator)
    apply = importlib.import_module(type(module).__module__)
    expected = apply.apply_rotary_pos_emb(query, key, *theirs)
    turned = apply_mrope(query, key, cos, sin, pairs=ours.pairs)
    for one, other in zip(turned, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
