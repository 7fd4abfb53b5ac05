"""The steps of a run: every sample once, the same samples however a step is divided."""

from __future__ import annotations

import pickle
from collections import Counter
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.batches import CostRates, SampleSizes, Step, StepPlan, StepShape, costs

RATES = CostRates(
    per_token=6.0, per_token_pair=0.001, per_supervised_token=4.0, per_patch=1.5,
    per_patch_pair=0.0005,
)  # fmt: skip


def sizes(
    lengths: list[int] | np.ndarray,
    vision: list[int] | None = None,
    videos: list[int] | None = None,
) -> SampleSizes:
    """Samples of these lengths; those in vision have pictures of half their length."""
    tokens = np.array(lengths, dtype=np.int64)
    number = np.arange(len(tokens))
    has_images, has_videos = np.isin(number, vision or []), np.isin(number, videos or [])
    patches = np.where(has_images | has_videos, tokens * 2, 0)
    cost = costs(
        RATES,
        num_tokens=tokens,
        num_supervised_tokens=tokens // 8,
        num_patches=patches,
        num_patch_pairs=patches**2,
    )
    return SampleSizes(
        num_tokens=tokens,
        num_supervised_tokens=tokens // 8,
        has_images=has_images,
        has_videos=has_videos,
        cost=cost,
        rates=RATES,
    )


def shape(**changed: Any) -> StepShape:
    usual: dict[str, Any] = {
        "batch_size": 2,
        "gradient_accumulation": 2,
        "tokens_per_step": None,
        "tokens_per_row": None,
        "packed": True,
        "num_ranks": 1,
        "seed": 3,
    }
    return StepShape(**usual | changed)


def steps_of(plan: StepPlan, epoch: int = 0) -> list[Step]:
    return [plan.step(epoch, number) for number in range(plan.num_steps)]


def lengths_of(batch: Any, plan: StepPlan) -> list[int]:
    return plan.sizes.num_tokens[list(batch.samples)].tolist()


def natural(num_samples: int, seed: int = 0) -> np.ndarray:
    """Lengths as they are: text lognormal, one to four pictures."""
    chance = np.random.default_rng(seed)
    text = chance.lognormal(np.log(250), 0.9, num_samples)
    pictures = chance.integers(1, 5, num_samples) * chance.integers(100, 400, num_samples)
    return np.clip(text + pictures, 20, 4140).astype(np.int64)


shapes = st.one_of(
    st.builds(
        shape,
        batch_size=st.integers(1, 4),
        gradient_accumulation=st.integers(1, 4),
        tokens_per_row=st.one_of(st.none(), st.integers(1, 60)),
        packed=st.booleans(),
        num_ranks=st.integers(1, 3),
        seed=st.integers(0, 5),
    ),
    st.builds(
        shape,
        tokens_per_step=st.integers(1, 120),
        tokens_per_row=st.one_of(st.none(), st.integers(1, 60)),
        packed=st.booleans(),
        num_ranks=st.integers(1, 3),
        seed=st.integers(0, 5),
    ),
)
lengths = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@settings(deadline=None, max_examples=300)
@given(lengths=lengths, shape=shapes, epoch=st.integers(0, 3), chance=st.randoms())
def test_what_holds_for_every_plan(lengths, shape, epoch, chance) -> None:
    numbers = range(len(lengths))
    images = [one for one in numbers if chance.random() < 0.4]
    videos = [one for one in numbers if chance.random() < 0.2]
    plan = StepPlan(sizes(lengths, images, videos), shape)
    steps = steps_of(plan, epoch)

    # Every sample once an epoch, and no step without one.
    assert Counter(one for step in steps for one in step.samples) == Counter(numbers)
    assert all(step.samples for step in steps)
    for step in steps:
        assert step.num_supervised_tokens == sum(lengths[one] // 8 for one in step.samples)
        num_empty = 0
        for slot in step.slots:
            assert len(slot) == shape.num_ranks
            assert any(batch.samples for batch in slot)
            for name, having in (("blank_image", images), ("blank_video", videos)):
                has = [bool(set(batch.samples) & set(having)) for batch in slot]
                blank = [getattr(batch, name) for batch in slot]
                assert blank == [any(has) and not one for one in has]
            for batch in slot:
                num_empty += not batch.samples
                row = lengths_of(batch, plan)
                cells = sum(row) if shape.packed else len(row) * max(row, default=0)
                if shape.row_limit is not None and len(row) > 1:
                    assert cells <= shape.row_limit
                if shape.samples_per_step is not None:
                    assert len(row) <= shape.batch_size
        # Nobody waits for nothing while another has two samples.
        if num_empty:
            assert all(len(batch.samples) <= 1 for slot in step.slots for batch in slot)
    if shape.samples_per_step is not None:
        full = shape.samples_per_step
        assert [len(step.samples) for step in steps[:-1]] == [full] * (len(steps) - 1)
        if shape.tokens_per_row is None:
            assert all(len(step.slots) == shape.gradient_accumulation for step in steps[:-1])


@pytest.mark.parametrize("tokens_per_row", [None, 900])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "accumulation", "ranks"),
    [(8, 1, 1), (4, 2, 1), (2, 4, 1), (1, 8, 1), (4, 1, 2), (2, 2, 2), (1, 4, 2), (1, 2, 4)],
)
def test_steps_hold_the_same_samples_however_they_are_divided(
    batch_size: int, accumulation: int, ranks: int, packed: bool, tokens_per_row: int | None
) -> None:
    given = sizes(natural(77), vision=[1, 5, 9])
    plain = StepPlan(given, shape(batch_size=8, gradient_accumulation=1))
    divided = StepPlan(
        given,
        shape(
            batch_size=batch_size,
            gradient_accumulation=accumulation,
            num_ranks=ranks,
            packed=packed,
            tokens_per_row=tokens_per_row,
        ),
    )
    for epoch in (0, 1):
        assert [set(step.samples) for step in steps_of(divided, epoch)] == [
            set(step.samples) for step in steps_of(plain, epoch)
        ]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("tokens_per_row", "ranks"), [(8192, 1), (4096, 1), (8192, 2), (2048, 4)])
def test_steps_of_tokens_hold_the_same_samples_too(
    tokens_per_row: int, ranks: int, packed: bool
) -> None:
    given = sizes(natural(200))
    plain = StepPlan(given, shape(tokens_per_step=16384))
    divided = StepPlan(
        given,
        shape(tokens_per_step=16384, tokens_per_row=tokens_per_row, num_ranks=ranks, packed=packed),
    )
    assert [set(step.samples) for step in steps_of(divided)] == [
        set(step.samples) for step in steps_of(plain)
    ]


@pytest.mark.parametrize("tokens_per_step", [None, 8192])
def test_the_order_follows_from_seed_and_epoch(tokens_per_step: int | None) -> None:
    given = sizes(natural(100))
    plan = StepPlan(given, shape(tokens_per_step=tokens_per_step))
    first, second = steps_of(plan, 0), steps_of(plan, 1)
    assert first != second
    assert len(first) == len(second) == plan.num_steps
    # Asked for anew, in another order, in another process.
    again = pickle.loads(pickle.dumps(plan))
    assert [again.step(0, number) for number in reversed(range(len(first)))] == first[::-1]
    assert steps_of(StepPlan(given, shape(tokens_per_step=tokens_per_step)), 1) == second
    other = StepPlan(given, shape(tokens_per_step=tokens_per_step, seed=4))
    assert steps_of(other, 0) != first
    # Not only the order of the steps is another.
    assert {frozenset(step.samples) for step in first} != {
        frozenset(step.samples) for step in second
    }


def test_a_pickled_plan_has_no_order_in_it() -> None:
    plan = StepPlan(sizes(natural(5000)), shape(tokens_per_step=8192))
    before = len(pickle.dumps(plan))
    plan.step(0, 0)
    assert len(pickle.dumps(plan)) == before < 5000 * 30


def test_there_is_no_step_behind_the_last() -> None:
    plan = StepPlan(sizes([1, 2, 3]), shape())
    for number in (-1, 1):
        with pytest.raises(IndexError, match=f"step {number} of an epoch of 1 steps"):
            plan.step(0, number)


@pytest.mark.parametrize("packed", [True, False])
def test_fewer_samples_than_ranks(packed: bool) -> None:
    plan = StepPlan(sizes([40, 9], vision=[0]), shape(num_ranks=4, packed=packed))
    [step] = steps_of(plan)
    [slot] = step.slots
    assert [len(batch.samples) for batch in slot] == [1, 1, 0, 0]
    assert [batch.blank_image for batch in slot] == [False, True, True, True]
    assert not any(batch.blank_video for batch in slot)


def test_a_smaller_last_step_takes_as_few_slots_as_it_can() -> None:
    plan = StepPlan(sizes([10] * 13), shape(batch_size=2, gradient_accumulation=4))
    assert [len(step.slots) for step in steps_of(plan)] == [4, 3]
    assert sorted(len(slot[0].samples) for slot in plan.step(0, 1).slots) == [1, 2, 2]


@pytest.mark.parametrize("packed", [True, False])
def test_a_sample_over_the_limit_goes_alone(packed: bool) -> None:
    given = shape(batch_size=4, gradient_accumulation=1, tokens_per_row=20, packed=packed)
    plan = StepPlan(sizes([8, 50, 9, 7]), given)
    rows = [sorted(lengths_of(slot[0], plan)) for slot in plan.step(0, 0).slots]
    # Without padding two rows would be 24 tokens: one has to hold 8 and 7, or 9 and something.
    assert [50] in rows
    assert len(rows) == 3


def test_a_step_of_tokens_that_one_sample_fills() -> None:
    plan = StepPlan(sizes([300, 10, 10, 10]), shape(tokens_per_step=100, tokens_per_row=50))
    found = sorted(sorted(lengths_of(slot[0], plan)) for s in steps_of(plan) for slot in s.slots)
    assert found == [[10, 10, 10], [300]]


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_samples_longer_than_a_step_are_steps(share: float) -> None:
    chance = np.random.default_rng(0)
    is_long = chance.random(3000) < share
    given = sizes(np.where(is_long, 12_000, chance.integers(100, 2000, 3000)))
    plan = StepPlan(given, shape(tokens_per_step=8192))
    steps = steps_of(plan)
    assert sorted(one for step in steps for one in step.samples) == list(range(3000))
    assert all(step.samples for step in steps)
    beside = [step for step in steps if len(step.samples) > 1 and is_long[list(step.samples)].any()]
    assert len(beside) <= 0.02 * len(steps)
    # What is not long fills the other steps.
    others = len(steps) - int(is_long.sum())
    assert given.num_tokens[~is_long].sum() >= 0.8 * 8192 * others


def test_samples_of_which_no_two_fit_are_steps_of_one() -> None:
    # Windows of as many tokens have other numbers of samples, and each step needs one.
    given = sizes(np.random.default_rng(0).integers(4200, 8000, 400))
    plan = StepPlan(given, shape(tokens_per_step=8192))
    for epoch in range(3):
        assert [len(step.samples) for step in steps_of(plan, epoch)] == [1] * 400


@pytest.mark.parametrize(("tokens_per_step", "ranks"), [(8192, 1), (32768, 1), (32768, 4)])
def test_rows_are_full_and_steps_even(tokens_per_step: int, ranks: int) -> None:
    given = sizes(natural(20_000))
    plan = StepPlan(given, shape(tokens_per_step=tokens_per_step, num_ranks=ranks))
    steps = [plan.step(1, number) for number in range(plan.num_steps)]
    tokens = np.array([given.num_tokens[list(step.samples)].sum() for step in steps])
    assert np.mean(tokens > tokens_per_step) <= 0.001
    assert tokens.std() <= 0.004 * tokens.mean()
    num_rows = sum(len(slot) for step in steps for slot in step.slots)
    assert given.num_tokens.sum() / (num_rows * 8192) >= 0.985


def test_few_samples_fill_their_rows() -> None:
    given = sizes(natural(256))
    plan = StepPlan(given, shape(tokens_per_step=8192))
    assert plan.num_steps == -(-int(given.num_tokens.sum()) // int(0.99 * 8192))
    assert all(len(step.slots) == 1 for epoch in range(5) for step in steps_of(plan, epoch))


@pytest.mark.parametrize(
    "lengths",
    [
        np.full(300, 5000),
        np.full(300, 4096),
        np.full(300, 2731),
        np.random.default_rng(1).integers(3000, 8000, 1000),
        np.where(np.random.default_rng(2).random(1000) < 0.3, 5500, 200),
    ],
)
def test_samples_that_do_not_fit_together_get_more_steps(lengths: np.ndarray) -> None:
    given = sizes(lengths)
    plan = StepPlan(given, shape(tokens_per_step=8192))
    steps = [plan.step(0, number) for number in range(plan.num_steps)]
    tokens = np.array([given.num_tokens[list(step.samples)].sum() for step in steps])
    assert np.mean(tokens > 8192) <= 0.02
    # And not so many more: less than two steps could not be one.
    assert np.mean(tokens) > 8192 / 2


def test_a_million_samples_plan_in_moments() -> None:
    given = sizes(np.random.default_rng(0).integers(50, 4000, 1_000_000))
    for made in (shape(batch_size=8, num_ranks=4), shape(tokens_per_step=65536, num_ranks=4)):
        began = perf_counter()
        plan = StepPlan(given, made)
        plan.step(0, 0)
        ready = perf_counter()
        for number in range(1, 101):
            plan.step(0, number)
        # A tenth of a second and a quarter of a millisecond here; the bounds are for busy machines.
        assert ready - began < 3
        assert perf_counter() - ready < 1.5
