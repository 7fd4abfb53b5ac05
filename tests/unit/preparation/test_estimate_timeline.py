"""A step's allocations, written by hand: the peak, and blocks that stand for several."""

from __future__ import annotations

from sightline.preparation.estimate.timeline import Segment, Timeline


def test_the_peak_is_where_most_is_alive_by_part() -> None:
    timeline = Timeline({})
    timeline.allocate(0, 10)
    timeline.allocate(1, 100)
    timeline.free(1)
    timeline.enter_phase("head")
    timeline.allocate(2, 40)
    timeline.end_forward()
    timeline.enter_phase("backward")
    timeline.allocate(3, 70)
    timeline.mark_gradient(3)
    timeline.free(2)
    timeline.allocate(4, 30)
    timeline.free(0)
    assert timeline.peak() == {"gradients": 70, "activations": 10, "logits": 40, "transient": 0}
    assert timeline.kept() == {"gradients": 0, "activations": 10, "logits": 40, "transient": 0}


def test_what_a_forward_pass_frees_is_transient() -> None:
    timeline = Timeline({})
    timeline.allocate(0, 5)
    timeline.allocate(1, 100)
    timeline.free(1)
    timeline.end_forward()
    assert timeline.peak() == {"gradients": 0, "activations": 5, "logits": 0, "transient": 100}


def run_of_blocks(*, num_blocks: int, stands_for: int) -> Timeline:
    """A row of blocks; each keeps 10, needs 7 more on its way back, and leaves a gradient of 3."""
    timeline = Timeline({"1": stands_for} if stands_for else {})
    keys = iter(range(1000))
    kept = []
    for number in range(num_blocks):
        timeline.enter(Segment(str(number), "forward"))
        kept.append(next(keys))
        timeline.allocate(kept[-1], 10)
        timeline.leave()
    timeline.end_forward()
    timeline.enter_phase("backward")
    for number in reversed(range(num_blocks)):
        timeline.enter(Segment(str(number), "backward"))
        needed, gradient = next(keys), next(keys)
        timeline.allocate(needed, 7)
        timeline.allocate(gradient, 3)
        timeline.mark_gradient(gradient)
        timeline.free(needed)
        timeline.free(kept[number])
        timeline.leave()
    return timeline


def test_one_block_stands_for_those_that_are_alike() -> None:
    every, once = (
        run_of_blocks(num_blocks=12, stands_for=0),
        run_of_blocks(num_blocks=3, stands_for=9),
    )
    assert every.peak() == once.peak()
    assert every.kept() == once.kept()
    assert every.peak() == {"gradients": 3, "activations": 120, "logits": 0, "transient": 7}


def test_gradients_that_outgrow_what_is_freed_peak_at_the_last_copy() -> None:
    def row(num_blocks: int, copies: int) -> Timeline:
        timeline = Timeline({"1": copies} if copies else {})
        for number in range(num_blocks):
            timeline.enter(Segment(str(number), "forward"))
            timeline.allocate(number, 1)
        timeline.leave()
        timeline.end_forward()
        timeline.enter_phase("backward")
        for number in reversed(range(num_blocks)):
            timeline.enter(Segment(str(number), "backward"))
            # The first block has nothing to train; the others peak before it.
            timeline.allocate(100 + number, 50 if number else 0)
            timeline.mark_gradient(100 + number)
            timeline.allocate(200 + number, 30 if number == 1 or number == num_blocks - 2 else 0)
            timeline.free(200 + number)
            timeline.free(number)
        timeline.leave()
        return timeline

    # In the middle of the row only: its last copy has the gradients of all the others beside it.
    assert sum(row(3, 5).peak().values()) == 50 * 7 + 30 + 2
