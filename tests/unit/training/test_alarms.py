"""Every alarm on a history that has its fault planted, and on sound ones."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from sightline.training.alarms import Alarm, Alarms, RunFacts
from sightline.training.alarms.gradients import EXPLODING_FACTOR
from sightline.training.alarms.record import FIRST_LOOK_LINES

TOWERS = ("vision", "projector", "language")
FACTS = RunFacts(
    vocabulary=151_936,
    is_random=False,
    towers=(frozenset(TOWERS),),
    trainable_share=0.0123,
    learning_rate=1e-4,
)
LORA = RunFacts(
    vocabulary=151_936,
    is_random=False,
    towers=(frozenset({"language"}), frozenset({"language", "projector"})),
    trainable_share=0.0123,
    learning_rate=1e-4,
    warmup_steps=10,
)


def _line(step: int, loss: float = 1.0, **values: Any) -> dict[str, Any]:
    norms = dict.fromkeys(TOWERS, 1.0)
    return {
        "step": step,
        "loss": loss,
        "grad_norm_by_tower": norms,
        "stage": 1,
        "supervised_tokens": 40,
        "media": 1,
    } | values


def _told(lines: list[dict[str, Any]], facts: RunFacts = FACTS) -> list[Alarm]:
    alarms = Alarms(facts)
    return [alarm for line in lines for alarm in alarms.update(line)]


def _losses(*losses: float, every: int = 1) -> list[dict[str, Any]]:
    return [_line(1 + index * every, loss) for index, loss in enumerate(losses)]


def _noisy(count: int, noise: float, fall: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    """Losses around 1.5 that fall by a share of it over their course."""
    chance = random.Random(seed)
    return _losses(*(1.5 * (1 - fall * n / count + chance.gauss(0, noise)) for n in range(count)))


# --- the first loss -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (11.9, "the loss of the first step is 11.9, as good as guessing for a pre-trained model"),
        (6.5, "the loss of the first step is 6.5, too high for a pre-trained model"),
    ],
)
def test_a_start_that_no_trained_model_has(loss: float, words: str) -> None:
    [alarm] = _told(_losses(loss, loss))
    assert (alarm.id, alarm.step) == ("loss.abnormal_start", 1)
    assert alarm.seen == f"{words}: guessing among 151,936 tokens is 11.9"
    assert "positions, chat template" in alarm.cause
    assert "sightline preview" in alarm.remedy


@pytest.mark.parametrize("loss", [0.4, 1.2, 3.5, 5.5])
def test_a_plausible_start(loss: float) -> None:
    assert _told(_losses(loss)) == []


def test_random_weights_begin_by_guessing() -> None:
    facts = RunFacts(
        vocabulary=512,
        is_random=True,
        towers=(frozenset(TOWERS),),
        trainable_share=1.0,
        learning_rate=1e-3,
    )
    assert _told(_losses(math.log(512)), facts) == []


def test_a_resumed_run_has_no_first_step() -> None:
    assert _told([_line(501, 11.9)]) == []


# --- falling --------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_a_loss_that_stays(noise: float, seed: int) -> None:
    told = _told(_noisy(1600, noise, seed=seed))
    assert [alarm.id for alarm in told] == ["loss.not_falling"]
    assert "1.23% of the weights train" in told[0].cause
    assert "1e-04" in told[0].cause or "0.0001" in told[0].cause
    if noise == 0:
        assert told[0].step == FIRST_LOOK_LINES


def test_what_is_frozen_is_said() -> None:
    told = _told(_noisy(100, 0.01), LORA)
    assert "and vision never trains" in told[0].cause
    assert "projector never" not in told[0].cause


def test_a_loss_that_rises_has_too_high_a_rate() -> None:
    [alarm] = _told(_noisy(100, 0.01, fall=-1.5))
    assert alarm.id == "loss.not_falling"
    assert alarm.cause == "The loss rises: the learning rate, 0.0001 at its peak, is too high."


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("fall", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls(noise: float, fall: float, seed: int) -> None:
    lines = _noisy(200, noise, fall, seed)
    assert _told(lines) == []
    # And stays low for the rest of a long run.
    low, chance = 1.5 * (1 - fall), random.Random(seed)
    rest = [_line(200 + n, low * (1 + chance.gauss(0, noise))) for n in range(1, 3000)]
    assert _told([*lines, *rest]) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls_at_once_and_then_stays(seed: int) -> None:
    chance = random.Random(seed)
    losses = [2.0, 1.4, *(1.0 + chance.gauss(0, 0.05) for _ in range(3000))]
    assert _told(_losses(*losses, every=10)) == []


def test_nothing_is_said_before_the_rate_has_risen() -> None:
    facts = RunFacts(
        vocabulary=151_936,
        is_random=False,
        towers=FACTS.towers,
        trainable_share=0.1,
        learning_rate=1e-4,
        warmup_steps=60,
    )
    lines = _losses(*[1.5] * 60, *(1.5 - 0.01 * n for n in range(60)))
    assert _told(lines, facts) == []
    assert [one.step for one in _told(_losses(*[1.5] * 200), facts)] == [192]


def test_a_model_that_knows_it_all_need_not_learn() -> None:
    assert _told(_losses(*[0.01] * 200)) == []


# --- gradients ------------------------------------------------------------------------------


def _norms(step: int, vision: float, others: float = 1.0, **values: Any) -> dict[str, Any]:
    norms = {"vision": vision, "projector": others, "language": others}
    return _line(step, 2.0 / step, grad_norm_by_tower=norms, **values)


def test_a_tower_without_gradients() -> None:
    [alarm] = _told([_norms(step, 0.0) for step in range(1, 9)])
    assert (alarm.id, alarm.tower, alarm.step) == ("gradient.zero", "vision", 3)
    assert alarm.seen.startswith("vision has no gradient in 3 logged steps in a row")
    assert "sightline check --probe" in alarm.remedy


def test_gradients_that_are_rightly_zero() -> None:
    # Steps without pictures.
    assert _told([_norms(step, 0.0, media=0) for step in range(1, 9)]) == []
    # A picture in every third step.
    lines = [_norms(step, float(step % 3 == 0), media=int(step % 3 == 0)) for step in range(1, 30)]
    assert _told(lines) == []
    # A tower that this stage does not train, or that owns no weight.
    assert _told([_norms(step, 0.0) for step in range(1, 9)], LORA) == []
    unowned = [_line(step, 2 / step, grad_norm_by_tower={"language": 1.0}) for step in range(1, 9)]
    assert _told(unowned) == []
    # Nothing has a gradient: not a tower's fault.
    assert _told([_norms(step, 0.0, others=0.0) for step in range(1, 9)]) == []


def test_language_needs_no_pictures() -> None:
    norms = {"vision": 1.0, "projector": 1.0, "language": 0.0}
    lines = [_line(s, 2 / s, grad_norm_by_tower=norms, media=0) for s in range(1, 5)]
    assert [(one.id, one.tower) for one in _told(lines)] == [("gradient.zero", "language")]


def test_a_new_stage_is_looked_at_anew() -> None:
    lines = [_norms(1, 1.0), _norms(2, 0.0), _norms(3, 0.0), _norms(4, 0.0, stage=2)]
    facts = RunFacts(
        vocabulary=151_936,
        is_random=False,
        towers=(FACTS.towers[0], FACTS.towers[0]),
        trainable_share=0.1,
        learning_rate=1e-4,
    )
    assert _told(lines, facts) == []
    more = [_norms(step, 0.0, stage=2) for step in (5, 6)]
    assert [one.step for one in _told([*lines, *more], facts)] == [6]


def test_a_tower_that_explodes_alone() -> None:
    calm = [_norms(step, 1.0 + 0.1 * (step % 5)) for step in range(1, 31)]
    wild = [_norms(31, 400.0), _norms(32, 500.0), _norms(33, 1.2)]
    [alarm] = _told([*calm, *wild])
    assert (alarm.id, alarm.tower, alarm.step) == ("gradient.exploding", "vision", 32)
    assert "the gradient norm of vision is 500, 417 times its usual 1.2" in alarm.seen
    assert alarm.seen.endswith("; projector and language not")
    assert "tuning.vision.learning_rate" in alarm.remedy


def test_all_towers_explode_together() -> None:
    calm = [_norms(step, 1.0) for step in range(1, 31)]
    told = _told([*calm, _norms(31, 400.0, others=500.0), _norms(32, 400.0, others=500.0)])
    assert {alarm.tower for alarm in told} == set(TOWERS)
    assert {alarm.cause for alarm in told} == {"The run diverges: the learning rate is too high."}


def test_sound_gradients_are_wild_as_well() -> None:
    chance = random.Random(0)
    # Batches differ by a factor of 30, and norms fall by a thousand over the run.
    lines = [
        _norms(step, 30 ** chance.random() * 1000 ** (-step / 400), others=chance.random())
        for step in range(1, 401)
    ]
    assert _told(lines) == []
    # One strange sample.
    calm = [_norms(step, 1.0) for step in range(1, 31)]
    assert _told([*calm, _norms(31, 2 * EXPLODING_FACTOR), _norms(32, 1.0)]) == []
    # Two hard batches, thirty times the usual.
    assert _told([*calm, _norms(31, 30.0), _norms(32, 30.0)]) == []
    # No more than at the start, after a long calm.
    late = [_norms(step, 50.0) for step in range(1, 11)] + [
        _norms(step, 0.1) for step in range(11, 400)
    ]
    assert _told([*late, _norms(400, 60.0), _norms(401, 60.0)]) == []


# --- supervision and validation -------------------------------------------------------------


def test_a_step_without_a_supervised_token() -> None:
    lines = [_line(1, 2.0), _line(2, 0.0, supervised_tokens=0), _line(3, 1.5)]
    [alarm] = _told(lines)
    assert (alarm.id, alarm.step) == ("loss.nothing_supervised", 2)
    assert "sightline check" in alarm.remedy
    assert _told([_line(1, 2.0, supervised_tokens=1)]) == []


def _evaluated(evaluations: list[float], training: list[float]) -> list[dict[str, Any]]:
    """Ten steps with a training loss, and then an evaluation, again and again."""
    lines = []
    for place, (held_out, loss) in enumerate(zip(evaluations, training, strict=True)):
        lines += [_line(place * 10 + step, loss) for step in range(1, 11)]
        lines.append({"step": place * 10 + 10, "eval_loss": held_out})
    return lines


def test_a_validation_loss_that_turns_up() -> None:
    [alarm] = _told(_evaluated([2.0, 1.5, 1.6, 1.7, 1.8], [2.0, 1.5, 1.2, 1.0, 0.8]))
    assert (alarm.id, alarm.step) == ("validation.rising", 40)
    assert alarm.seen == (
        "the validation loss is 1.7, 13% over its best, 1.5 at step 20; the training loss fell "
        "from 1.5 to 1"
    )
    assert "checkpoint nearest to step 20" in alarm.remedy


@pytest.mark.parametrize(
    ("evaluations", "training"),
    [
        ([2.0, 1.5, 1.2, 1.0, 0.9], [2.0, 1.5, 1.2, 1.0, 0.8]),
        # Noise: one evaluation, and less than five percent.
        ([2.0, 1.5, 1.7, 1.5, 1.7], [2.0, 1.5, 1.2, 1.0, 0.8]),
        ([2.0, 1.5, 1.55, 1.57, 1.56], [2.0, 1.5, 1.2, 1.0, 0.8]),
        # The training loss rises too: that is another fault.
        ([2.0, 1.5, 1.7, 1.8, 1.9], [2.0, 1.5, 1.7, 1.8, 1.9]),
        ([2.0, 3.0], [2.0, 1.0]),
    ],
)
def test_a_validation_loss_that_is_sound(evaluations: list[float], training: list[float]) -> None:
    told = _told(_evaluated(evaluations, training))
    assert [one for one in told if one.id == "validation.rising"] == []


# --- once -----------------------------------------------------------------------------------


def test_an_alarm_is_told_once_and_again_when_it_was_gone() -> None:
    lines = [
        _line(step, 2.0 / step, supervised_tokens=0 if step in (3, 4, 5, 8) else 40)
        for step in range(1, 11)
    ]
    assert [alarm.step for alarm in _told(lines)] == [3, 8]


def test_what_was_told_before_a_resume_is_not_told_again() -> None:
    lines = [_norms(step, 0.0) for step in range(1, 9)]
    alarms = Alarms(FACTS, lines[:5])
    assert [alarm for line in lines[5:] for alarm in alarms.update(line)] == []
    alarms = Alarms(FACTS, lines[:2])
    assert [alarm.step for line in lines[2:] for alarm in alarms.update(line)] == [3]


def test_the_text_has_cause_and_remedy() -> None:
    [alarm] = _told(_losses(11.9))
    first, cause, remedy = alarm.text.splitlines()
    assert first == f"step 1: {alarm.seen}"
    assert cause == f"  cause   {alarm.cause}"
    assert remedy == f"  remedy  {alarm.remedy}"


def test_old_lines_raise_nothing() -> None:
    lines = [{"step": step, "loss": 2.0 / step, "grad_norm": 1.0} for step in range(1, 100)]
    assert _told(lines) == []
