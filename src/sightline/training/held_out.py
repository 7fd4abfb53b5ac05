"""Answers to held-out questions while a run trains, shared out over its processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from sightline.config import EvaluationConfig
from sightline.data import Encoder
from sightline.data.samples import PlannedSamples
from sightline.errors import ConfigError
from sightline.evaluation.asking import Asked, Question, ask, questions_of
from sightline.evaluation.evaluating import EvaluationSettings, measure_all
from sightline.evaluation.metrics.measures import MEASURES, refuse_without_library
from sightline.evaluation.predicting import Answerer, predict
from sightline.evaluation.prediction import Prediction
from sightline.evaluation.serving import make_answerer
from sightline.families import BoxSpace
from sightline.preparation import make_encoder
from sightline.training.processes import num_processes, rank
from sightline.training.ranks import from_all
from sightline.training.ready import ReadyRun

Arithmetic = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutAnswers:
    """Questions of the held-out data, and how their answers are measured.

    Attributes:
        settings: The configuration's section.
        samples: The held-out samples.
        questions: What is asked.
        sources: Name of the source of every file.
        encoder: The run's encoder.
        space: The space in which the family writes boxes.
        answerer: Makes answers; its model is put in when it is asked.
    """

    settings: EvaluationConfig
    samples: PlannedSamples
    questions: tuple[Question, ...]
    sources: tuple[str, ...]
    encoder: Encoder
    space: BoxSpace
    answerer: Answerer

    def measured(self, model: Any, arithmetic: Arithmetic) -> dict[str, float]:
        """Measures of the model's answers. All processes have to call it.

        Args:
            model: The planned model, whole in this process, in evaluation mode.
            arithmetic: Makes the context in which it computes.

        Returns:
            Measures by name; the same in every process.
        """
        own = self.questions[rank() :: num_processes()]
        answerer = replace(self.answerer, model=model, arithmetic=arithmetic)
        made = [
            one
            for batch in predict(own, self.ask, answerer, batch_size=self.settings.batch_size)
            for one in batch
        ]
        every = [made] if num_processes() == 1 else from_all(made)
        return self._measures([one for part in every for one in part])

    def ask(self, question: Question) -> Asked:
        """A question, read and encoded."""
        return ask(question, self.samples, self.encoder, space=self.space, sources=self.sources)

    def _measures(self, predictions: list[Prediction]) -> dict[str, float]:
        # In the order of the data, whoever answered: boxes that are equally sure keep theirs.
        ordered = sorted(predictions, key=lambda one: (one.sample, one.turn))
        settings = EvaluationSettings(metrics=tuple(self.settings.metrics), iou=self.settings.iou)
        found = measure_all(ordered, settings)
        # Without a predicted box none of them is right.
        return {name: 0.0 if value is None else value for name, value in found.items()}


def held_out_answers(ready: ReadyRun) -> HeldOutAnswers | None:
    """What answers the held-out questions of a run; None where no measure is asked for.

    Args:
        ready: What the run starts from.

    Raises:
        ConfigError: A measure is of boxes or points, and no held-out answer has any; or a library
            is not installed.
    """
    settings, data = ready.config.evaluation, ready.data.eval
    if not settings.metrics or data is None:
        return None
    answers = HeldOutAnswers(
        settings=settings,
        samples=data.samples,
        questions=tuple(questions_of(data.samples, "last", settings.samples)),
        sources=tuple(data.sources[number].title for number in data.source_of_file),
        encoder=make_encoder(ready.checkpoint),
        space=ready.checkpoint.family.box_space,
        answerer=make_answerer(
            ready.model, ready.checkpoint, ready.pixels, max_new_tokens=settings.max_new_tokens
        ),
    )
    _refuse_unmeasurable(answers)
    return answers


def _refuse_unmeasurable(answers: HeldOutAnswers) -> None:
    """Before a weight has moved: a measure that is of nothing would be 0 for ever."""
    refuse_without_library(answers.settings.metrics)
    for name in answers.settings.metrics:
        kinds = set(MEASURES[name].kinds)
        if not kinds <= {"boxes", "points"}:
            continue
        wants_boxes = "boxes" in kinds
        if not any(
            item.is_box or not wants_boxes
            for question in answers.questions
            for item in answers.ask(question).annotated
        ):
            raise ConfigError(
                f"evaluation.metrics names {name}, and none of the {len(answers.questions):,} "
                f"held-out answers that are asked for has {'boxes' if wants_boxes else 'points'}."
                "\nLeave it out, or say with text_boxes of data.eval what the numbers in the "
                "answers mean."
            )
