"""Proofs before the first step: who makes which, what is written, and that one ends the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from sightline.errors import RunError
from sightline.records import RunDirectory
from sightline.training import starting
from sightline.training.starting import Prepare, StartCheck, StartProof, StartWatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen(StartProof):
    """A proof that says how far both ways are apart."""

    apart: float

    @property
    def share(self) -> float:
        return self.apart


class Check(StartCheck[Seen]):
    """Finds what it was told to find, and counts how often."""

    def __init__(self, record: str, apart: float = 0.0, num_samples: int = 1) -> None:
        # What it would look at is not looked at here.
        nothing: Any = None
        super().__init__(nothing, together=nothing, alone=nothing)
        self.record = record  # pyright: ignore[reportAttributeAccessIssue]
        self.num_made = 0
        self._apart = apart
        self._num_samples = num_samples

    def choose(self) -> list[Any]:
        return [None] * self._num_samples

    def prove(self, model: nn.Module, samples: Sequence[Any], prepare: Prepare) -> Seen:
        self.num_made += 1
        return self.seen()

    def seen(self) -> Seen:
        return Seen(samples=["a:1"], num_tokens=3, tolerance=0.1, apart=self._apart)

    def refusal(self, proof: Seen) -> RunError:
        return RunError(f"{self.record} is {proof.apart}")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that has just been made."""
    return RunDirectory.create(tmp_path / "run")


def begin(run: RunDirectory, *checks: Check, is_first: bool = True) -> None:
    watch = StartWatch(run, checks)
    trainer: Any = SimpleNamespace(
        planned=nn.Linear(1, 1),
        compute_loss_context_manager=nullcontext,
        _prepare_inputs=lambda batch: batch,
    )
    watch.watch(trainer)
    nothing: Any = None
    state: Any = SimpleNamespace(is_world_process_zero=is_first)
    watch.on_train_begin(nothing, state, nothing)


def of_two(monkeypatch: pytest.MonkeyPatch, rank: int, other: list[Seen | None]) -> None:
    """This process is one of two; the other says what it made."""

    def from_all(value: Any) -> list[Any]:
        return [value, other] if rank == 0 else [other, value]

    monkeypatch.setattr(starting, "num_ranks", lambda: 2)
    monkeypatch.setattr(starting, "this_rank", lambda: rank)
    monkeypatch.setattr(starting, "from_all", from_all)


def test_one_process_makes_all_and_writes_them(run: RunDirectory) -> None:
    first, second, none = Check("packing", 0.05), Check("loss"), Check("other", 9.0, num_samples=0)
    begin(run, first, none, second)
    assert (first.num_made, second.num_made, none.num_made) == (1, 1, 0)
    state = run.read_state()
    assert state["packing"] == {
        "samples": ["a:1"],
        "num_tokens": 3,
        "tolerance": 0.1,
        "apart": 0.05,
    }
    assert state["loss"]["apart"] == 0.0
    assert "other" not in state


def test_one_that_does_not_hold_ends_the_run_and_is_written(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="loss is 0\\.2"):
        begin(run, Check("packing"), Check("loss", 0.2))
    assert run.read_state()["loss"]["apart"] == 0.2


def test_what_is_not_a_number_does_not_hold() -> None:
    assert not Check("loss", float("nan")).seen().holds
    assert Check("loss", 0.1).seen().holds


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_make_one_each(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    checks = [Check("packing", 0.01), Check("loss", 0.02)]
    made: list[Seen | None] = [None, None]
    made[1 - rank] = checks[1 - rank].seen()
    of_two(monkeypatch, rank, made)
    begin(run, *checks, is_first=rank == 0)
    assert [check.num_made for check in checks] == [int(rank == 0), int(rank == 1)]
    state = run.read_state()
    found = [state[name]["apart"] for name in ("packing", "loss") if name in state]
    assert found == ([0.01, 0.02] if rank == 0 else [])


@pytest.mark.parametrize("rank", [0, 1])
def test_what_the_other_process_saw_ends_this_one_too(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    checks = [Check("packing", 0.5), Check("loss", 0.5)]
    sound = [Check("packing"), Check("loss")]
    sound[1 - rank] = checks[1 - rank]
    made: list[Seen | None] = [None, None]
    made[1 - rank] = checks[1 - rank].seen()
    of_two(monkeypatch, rank, made)
    with pytest.raises(RunError, match=f"{checks[1 - rank].record} is 0.5"):
        begin(run, *sound)


def test_processes_that_share_weights_make_every_proof(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [Check("packing"), Check("loss")]
    of_two(monkeypatch, 1, [check.seen() for check in checks])
    monkeypatch.setattr(starting, "is_shared_out", lambda model: True)
    begin(run, *checks)
    assert [check.num_made for check in checks] == [1, 1]
