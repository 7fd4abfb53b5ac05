"""Comparing logits: what is measured, and what is within the tolerance."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sightline.checks.context import VerifyContext
from sightline.checks.finding import Finding
from sightline.checks.logits import Gap, _finding, gap_between
from sightline.config import RunConfig
from sightline.evaluation import Probe, ProbeSample, SeenPixels
from sightline.records import RunDirectory, write_json


def _sample(line: int, logits: list[list[float]]) -> ProbeSample:
    return ProbeSample(
        index=line - 1,
        file="train.jsonl",
        line=line,
        messages=[],
        max_new_tokens=8,
        pixels=SeenPixels(grids=[], digest=""),
        answer_ids=[],
        answer_gaps=[],
        input_ids=torch.tensor([1, 2]),
        labels=torch.tensor([-100, 2]),
        position_ids=torch.zeros(3, 2, dtype=torch.int64),
        columns=torch.arange(len(logits)),
        logits=torch.tensor(logits),
    )


def _context(dtype: str = "float32", **verify: float) -> VerifyContext:
    """Settings and recorded logits are all that a tolerance needs."""
    config = RunConfig.model_validate(
        {"model": "m", "output": "o", "data": {"train": ["a"]}, "verify": verify}
    )
    samples = [_sample(1, [[0.0, 2.0], [4.0, 6.0]]), _sample(2, [[-3.0, 3.0]])]
    return VerifyContext(
        run=RunDirectory(Path("run")),
        config=config,
        probe=Probe(samples=samples, base="b", dtype=dtype, uses_adapter=False),
        checkpoint=None,  # type: ignore[arg-type]
        model=None,
    )


def _judge(largest: list[float], dtype: str = "float32", noise: float = 0.0) -> Finding:
    gaps = [Gap(largest=value, noise=noise if math.isfinite(value) else value) for value in largest]
    return _finding(_context(dtype), gaps, id="logits.merged", title="t", advice="Look.")


def test_a_gap_is_the_largest_difference_and_the_noise() -> None:
    first = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    second = torch.tensor([[1.0, -1.0], [1.0, -3.0]])
    gap = gap_between(first, second)
    assert gap.largest == 2.0
    # Root of a mean square of 1, over a spread of root 11 / 3.
    assert gap.noise == pytest.approx(1.0 / math.sqrt(11 / 3))
    assert gap_between(second, second) == Gap(0.0, 0.0)


def test_the_gap_of_something_that_is_no_number_is_no_number() -> None:
    good = torch.tensor([[1.0, 2.0]])
    bad = torch.tensor([[1.0, math.nan]])
    assert math.isnan(gap_between(bad, good).largest)
    assert math.isnan(gap_between(good, bad).largest)
    assert math.isnan(gap_between(good, bad).noise)


@pytest.mark.parametrize(
    ("largest", "holds"),
    [([0.0], True), ([9e-4, 1e-3], True), ([9e-4, 1.1e-3], False), ([1.1e-3, 0.0], False)],
)
def test_the_largest_difference_judges_in_fp32(largest: list[float], holds: bool) -> None:
    finding = _judge(largest, noise=9.0)
    assert finding.holds is holds
    assert finding.tolerance == "0.001"
    assert finding.figures["largest_difference"] == max(largest)
    assert bool(finding.advice) is not holds


@pytest.mark.parametrize(("noise", "holds"), [(0.05, True), (0.15, True), (0.151, False)])
def test_the_noise_judges_in_bf16(noise: float, holds: bool) -> None:
    finding = _judge([0.4, 0.2], "bfloat16", noise)
    assert finding.holds is holds
    assert finding.tolerance == "15 %"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("largest", [[math.nan], [math.nan, 0.0], [0.0, math.nan], [0.0, math.inf]])
def test_what_is_no_number_is_within_no_tolerance(
    tmp_path: Path, largest: list[float], dtype: str
) -> None:
    """Wherever it stands: a maximum in Python passes over it. And it can be written down."""
    finding = _judge(largest, dtype)
    assert finding.holds is False
    assert finding.detail
    write_json(tmp_path / "certificate.json", finding.record())


def test_the_place_named_is_that_of_the_largest_difference() -> None:
    gaps = [Gap(largest=5.0, noise=0.1), Gap(largest=1.0, noise=0.3)]
    finding = _finding(_context(), gaps, id="logits.merged", title="t", advice="Look.")
    assert finding.detail == "largest at train.jsonl:1"


def test_the_tolerance_is_the_users_in_fp32_and_the_spreads_in_bf16() -> None:
    assert _context().logits_tolerance == 1e-3
    assert _context(logits_tolerance=0.5).logits_tolerance == 0.5
    assert _context().is_exact
    coarse = _context("bfloat16")
    assert not coarse.is_exact
    assert coarse.probe.samples[0].logits.shape == (2, 2)
    spread = torch.tensor([0.0, 2.0, 4.0, 6.0, -3.0, 3.0]).std()
    assert coarse.logits_tolerance == pytest.approx(0.25 * float(spread))
    assert _context("bfloat16", logits_tolerance=7.0).logits_tolerance == 7.0
