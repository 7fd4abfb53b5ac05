"""Sharing out: bounds that hold for any sizes, and figures of steps that are known by heart."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.batches import (
    CostRates,
    MicroBatch,
    SampleSizes,
    Step,
    StepPlan,
    StepShape,
    figures_of,
    idle_share,
)
from sightline.data.batches.balance import balanced, even_out, filled, least_bins
from sightline.data.batches.figures import Spread
from sightline.data.batches.padding import padded_cost, runs

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=40)


def loads(shares: list[list[int]], sizes: list[int]) -> list[int]:
    return [sum(sizes[one] for one in share) for share in shares]


def is_partition(shares: list[list[int]], num_sizes: int) -> bool:
    return sorted(one for share in shares for one in share) == list(range(num_sizes))


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=7), num_bins=st.integers(1, 3))
def test_no_share_is_far_over_the_best_there_can_be(sizes: list[int], num_bins: int) -> None:
    shares = balanced(sizes, num_bins)
    assert is_partition(shares, len(sizes))
    best = min(
        max(sum(size for size, at in zip(sizes, way, strict=True) if at == one) for one in way)
        for way in product(range(num_bins), repeat=len(sizes))
    )
    # Graham, Bounds on multiprocessing timing anomalies (1969), for the largest first.
    assert max(loads(shares, sizes)) <= (4 / 3 - 1 / (3 * num_bins)) * best + 1e-9


def test_limits_of_a_share() -> None:
    # Two at most, and tokens: 30 goes alone, 12 does not fit beside 9.
    shares = balanced([5.0, 4.0, 3.0, 1.0], 3, most=2, weights=[30, 12, 9, 5], capacity=20)
    assert shares == [[0], [1], [2, 3]]
    assert balanced([5.0, 4.0, 3.0], 2, weights=[30, 12, 9], capacity=20) == []
    assert balanced([1.0, 1.0, 1.0], 1, most=2) == []


@settings(deadline=None)
@given(sizes=SIZES, num_bins=st.integers(1, 6), chance=st.randoms())
def test_exchanges_only_make_shares_more_even(sizes: list[int], num_bins: int, chance) -> None:
    num_bins = min(num_bins, len(sizes))
    order = list(range(len(sizes)))
    chance.shuffle(order)
    shares = [order[first::num_bins] for first in range(num_bins)]
    before = max(loads(shares, sizes))
    counts = [len(share) for share in shares]
    even_out(shares, np.array(sizes), target=0, most=max(counts))
    assert is_partition(shares, len(sizes))
    assert all(shares)
    assert max(map(len, shares)) <= max(counts)
    after = loads(shares, sizes)
    assert max(after) <= before
    # No single size that is moved would help.
    if max(after) - min(after) > min(sizes) and len(shares) > 1:
        largest = shares[after.index(max(after))]
        smallest = after.index(min(after))
        gap = max(after) - min(after)
        if len(shares[smallest]) < max(counts):
            assert not any(0 < sizes[one] < gap for one in largest) or len(largest) == 1


def test_exchanges_find_what_largest_first_misses() -> None:
    sizes = [3, 3, 2, 2, 2]
    shares = balanced(sizes, 2)
    assert loads(shares, sizes) == [7, 5]
    even_out(shares, np.array(sizes), target=6)
    assert loads(shares, sizes) == [6, 6]


def test_a_share_that_nothing_helps_does_not_keep_others_uneven() -> None:
    sizes = [20, 6, 5, 2, 1]
    shares = [[0], [1, 2], [3, 4]]
    even_out(shares, np.array(sizes), target=7)
    assert loads(shares, sizes) == [20, 7, 7]


def test_best_fit_finds_what_even_shares_do_not() -> None:
    sizes = [8, 5, 5, 3, 3, 3]
    shares = balanced(sizes, 3)
    even_out(shares, np.array(sizes), target=10)
    assert max(loads(shares, sizes)) == 11
    assert sorted(map(sorted, filled(sizes, 3, 10))) == [[0], [1, 2], [3, 4, 5]]
    assert filled(sizes, 2, 10) == []
    # One that fits nowhere is beside none of them.
    assert sorted(map(sorted, filled([25, *sizes], 4, 10))) == [[0], [1], [2, 3], [4, 5, 6]]


@settings(deadline=None)
@given(sizes=SIZES, num_bins=st.integers(1, 8), most=st.one_of(st.none(), st.integers(1, 6)))
def test_filled_shares_keep_their_limits(sizes: list[int], num_bins: int, most: int | None) -> None:
    shares = filled(sizes, num_bins, 45, most=most)
    if not shares:
        # As many shares as sizes are always enough.
        assert num_bins < len(sizes)
        return
    assert is_partition(shares, len(sizes))
    assert max(loads(shares, sizes)) <= 45
    assert most is None or max(map(len, shares)) <= most
    assert all(shares) or len(sizes) < num_bins


def fewest_bins(sizes: list[int], capacity: int) -> int:
    """By trying all."""
    for num_bins in range(1, len(sizes) + 1):
        for chosen in product(range(num_bins), repeat=len(sizes)):
            used = [0] * num_bins
            for size, number in zip(sizes, chosen, strict=True):
                used[number] += min(size, capacity)
            if max(used) <= capacity:
                return num_bins
    raise AssertionError


@settings(deadline=None, max_examples=150)
@given(sizes=st.lists(st.integers(1, 14), min_size=1, max_size=6))
def test_the_least_number_of_bins_is_never_too_many(sizes: list[int]) -> None:
    bound = least_bins(np.array(sizes), 10, fill=1.0)
    assert 1 <= bound <= fewest_bins(sizes, 10)
    # At least what they fill, and those over half of a bin share with none of their kind.
    assert bound >= sum(min(size, 10) for size in sizes) / 10
    assert bound >= sum(size > 5 for size in sizes)


def test_the_least_number_of_bins_knows_what_does_not_go_together() -> None:
    assert least_bins(np.array([6, 6, 6, 4, 4, 4]), 10, fill=1.0) == 3
    # 3 of 6 leave 4 each: no room for a 5.
    assert least_bins(np.array([6, 6, 6, 5, 5]), 10, fill=1.0) == 4
    assert least_bins(np.array([25, 25]), 10, fill=0.9) == 2
    assert least_bins(np.full(100, 1), 10, fill=0.5) == 20


PLAIN = CostRates(per_token=1.0)


@settings(deadline=None, max_examples=200)
@given(
    tokens=st.lists(st.integers(1, 30), min_size=1, max_size=9),
    num_batches=st.integers(1, 5),
    most=st.one_of(st.none(), st.integers(1, 4)),
    capacity=st.one_of(st.none(), st.integers(1, 60)),
)
def test_padded_batches_cost_the_least_they_can(tokens, num_batches, most, capacity) -> None:
    costs = [float(length) for length in tokens]
    found = runs(tokens, costs, num_batches, PLAIN, most=most, capacity=capacity)
    ordered = sorted(tokens, reverse=True)

    def fits(part: list[int]) -> bool:
        cells = len(part) * part[0]
        return (most is None or len(part) <= most) and (
            capacity is None or len(part) == 1 or cells <= capacity
        )

    cuts = product((False, True), repeat=len(tokens) - 1)
    ways = [_parts(ordered, way) for way in cuts if sum(way) < num_batches]
    allowed = [parts for parts in ways if all(map(fits, parts))]
    best = min((max(len(part) * part[0] for part in parts) for parts in allowed), default=None)
    if best is None:
        assert found == []
        return
    assert is_partition(found, len(tokens))
    assert len(found) == num_batches
    assert all(found) or len(tokens) < num_batches
    assert max(padded_cost(part, tokens, costs, PLAIN) for part in found) <= best * (1 + 1e-5)


def _parts(ordered: list[int], cuts: tuple[bool, ...]) -> list[list[int]]:
    bounds = [0, *(place for place, cut in enumerate(cuts, start=1) if cut), len(ordered)]
    return [ordered[first:last] for first, last in pairwise(bounds)]


def test_padding_costs_attention_too() -> None:
    rates = CostRates(per_token=1.0, per_token_pair=0.5)
    # A row of 4: 4 + 8. The second sample costs 2 + 2 alone, and has 10 of vision beside it.
    assert padded_cost([0, 1], [4, 2], [12.0, 14.0], rates) == 12 + 12 + 10
    assert padded_cost([], [4], [12.0], rates) == 0


def plan_of(lengths: list[int], **changed) -> StepPlan:
    tokens = np.array(lengths)
    no = np.zeros(len(lengths), dtype=bool)
    sizes = SampleSizes(
        num_tokens=tokens,
        num_supervised_tokens=tokens,
        has_images=no,
        has_videos=no,
        cost=tokens.astype(float),
    )
    usual = {
        "batch_size": 2,
        "gradient_accumulation": 1,
        "tokens_per_step": None,
        "tokens_per_row": None,
        "packed": True,
        "num_ranks": 2,
        "seed": 0,
    }
    return StepPlan(sizes, StepShape(**usual | changed))


def batch(*samples: int) -> MicroBatch:
    return MicroBatch(samples=samples, blank_image=False, blank_video=False)


def test_ranks_wait_for_the_slowest_of_each_slot() -> None:
    plan = plan_of([4, 3, 2, 1])
    even = Step(slots=((batch(0, 3), batch(1, 2)),), num_supervised_tokens=10)
    uneven = Step(slots=((batch(0, 1), batch(2, 3)),), num_supervised_tokens=10)
    twice = Step(slots=((batch(0), batch(3)), (batch(1), batch(2))), num_supervised_tokens=10)
    nobody = Step(slots=((batch(0, 1, 2, 3), batch()),), num_supervised_tokens=10)
    assert idle_share(plan, [even]) == 0
    assert idle_share(plan, [uneven]) == pytest.approx(1 - 10 / 14)
    assert idle_share(plan, [twice]) == pytest.approx(1 - 10 / 14)
    assert idle_share(plan, [nobody]) == 0.5
    assert idle_share(plan, [even, nobody]) == pytest.approx(1 - 20 / 30)
    # Padded, 4 and 1 cost 8, and 3 and 2 cost 6.
    padded = plan_of([4, 3, 2, 1], packed=False)
    assert idle_share(padded, [even]) == pytest.approx(1 - 14 / 16)


def test_ranks_take_turns_with_what_costs_more() -> None:
    plan = plan_of([8, 7, 4, 3], batch_size=1, gradient_accumulation=2)
    slots = plan.step(0, 0).slots
    lengths = [[int(plan.sizes.num_tokens[list(one.samples)].sum()) for one in s] for s in slots]
    assert lengths == [[8, 7], [3, 4]]


def test_figures_of_steps_that_are_known_by_heart() -> None:
    packed = figures_of(plan_of([4, 3, 2, 1, 9]))
    assert packed.num_steps == 2
    assert packed.slots == Spread(least=1, median=1, most=1)
    assert (packed.samples.least, packed.samples.most) == (1, 4)
    assert packed.padding_share == 0
    padded = figures_of(plan_of([4, 4, 2, 1], packed=False))
    # 4 with 4, and 2 with 1: one cell of 12 is padding.
    assert padded.padding_share == pytest.approx(1 / 12)
    assert padded.tokens == Spread(least=11, median=11, most=11)
    assert padded.row_tokens == Spread(least=4, median=8, most=8)
    assert padded.idle_share == pytest.approx(1 - 12 / 16)


@pytest.mark.parametrize("packed", [True, False])
def test_ranks_wait_little(packed: bool) -> None:
    chance = np.random.default_rng(0)
    lengths = np.clip(chance.lognormal(6.8, 0.6, 4000), 20, 4140).astype(int).tolist()
    plan = plan_of(lengths, packed=packed, tokens_per_step=65536, tokens_per_row=8192, num_ranks=4)
    in_turn = [plan.samples(0, number)[:8].reshape(4, 2) for number in range(40)]
    loads = [np.array(lengths)[rows].sum(-1) for rows in in_turn]
    as_they_come = 1 - sum(map(sum, loads)) / sum(4 * max(load) for load in loads)
    assert as_they_come > 0.1
    assert figures_of(plan).idle_share < (0.02 if packed else 0.08)
