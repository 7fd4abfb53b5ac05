"""Predictions of a data set: asked in batches, the next one read while a batch is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from sightline.data import Collator
from sightline.errors import OutOfMemoryError
from sightline.evaluation.answering import Said, answer_batch, likelihood, part_likelihood
from sightline.evaluation.asking import Asked, Question, in_picture
from sightline.evaluation.generate import answer_text
from sightline.evaluation.prediction import Located, Prediction, repairs_beyond
from sightline.evaluation.reading import read_answer
from sightline.families import Tokens

Ask = Callable[[Question], Asked]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerer:
    """A model that answers.

    Attributes:
        model: In evaluation mode.
        collator: Makes batches with padding on the left.
        tokenizer: The checkpoint's tokenizer.
        tokens: The family's special tokens.
        max_new_tokens: Bound on an answer.
        arithmetic: Makes the context in which it computes, such as autocast.
    """

    model: Any
    collator: Collator
    tokenizer: Any
    tokens: Tokens
    max_new_tokens: int
    arithmetic: Callable[[], AbstractContextManager[Any]]

    def answers(self, batch: dict[str, torch.Tensor]) -> list[Said]:
        """Answers of a batch.

        Raises:
            OutOfMemoryError: It does not fit the device.
        """
        inputs = {
            key: value.to(self.model.device) for key, value in batch.items() if key != "labels"
        }
        try:
            with self.arithmetic():
                return answer_batch(
                    self.model,
                    inputs,
                    tokenizer=self.tokenizer,
                    tokens=self.tokens,
                    max_new_tokens=self.max_new_tokens,
                )
        except torch.OutOfMemoryError as error:
            rows, columns = inputs["input_ids"].shape
            raise OutOfMemoryError(
                f"{rows} answers at once, to prompts of up to {columns:,} tokens, do not fit the "
                f"memory of {self.model.device}.\nLower the batch size, or the limits on pixels."
            ) from error


def predict(
    questions: Iterable[Question], ask: Ask, answerer: Answerer, *, batch_size: int
) -> Iterator[list[Prediction]]:
    """Predictions batch by batch, the longest questions first.

    What does not fit memory is then known at once, and questions of a batch are of one length.

    Args:
        questions: What is asked.
        ask: Reads and encodes a question.
        answerer: Answers.
        batch_size: Questions that are answered at once.

    Raises:
        DataError: A sample cannot be used any more.
        OutOfMemoryError: A batch does not fit the device.
    """
    ordered = sorted(questions, key=lambda one: (-one.num_tokens, one.sample, one.turn or 0))
    batches = [ordered[at : at + batch_size] for at in range(0, len(ordered), batch_size)]
    # Text is encoded here: a tokenizer must not be used in two threads at once.
    with ThreadPoolExecutor(max_workers=1) as reading:
        waiting: tuple[list[Asked], Future[dict[str, torch.Tensor]]] | None = None
        for batch in batches:
            asked = [ask(question) for question in batch]
            loading = reading.submit(answerer.collator, [one.prompt for one in asked])
            if waiting is not None:
                yield _answered(*waiting, answerer)
            waiting = asked, loading
        if waiting is not None:
            yield _answered(*waiting, answerer)


def _answered(
    asked: Sequence[Asked], loading: Future[dict[str, torch.Tensor]], answerer: Answerer
) -> list[Prediction]:
    said = answerer.answers(loading.result())
    return [prediction_of(one, answer, answerer) for one, answer in zip(asked, said, strict=True)]


def prediction_of(asked: Asked, said: Said, answerer: Answerer) -> Prediction:
    """An answer beside its annotation, its boxes in pixels of the file.

    Args:
        asked: The question.
        said: The answer.
        answerer: Who gave it.
    """
    answer = answer_text(said.ids, answerer.tokenizer, answerer.tokens)
    read = read_answer(answer)
    predicted: list[Located] = []
    lost = list(read.lost)
    for found in read.found:
        if asked.frame is None:
            lost.append("no_picture")
            continue
        score = part_likelihood(said, answerer.tokenizer, answer, found.start, found.stop)
        predicted.append(in_picture(found, asked.frame, score))
    origin = asked.prompt.conversation.origin
    parts = [
        f"{name} {number}"
        for name, number in (("part", origin.part), ("piece", origin.piece))
        if number is not None
    ]
    return Prediction(
        sample=asked.question.sample,
        turn=asked.turn,
        source=asked.source,
        file=str(origin.file).encode("utf-8", "replace").decode(),
        line=origin.line,
        row=origin.index,
        place=", ".join([*([origin.place] if origin.place else []), *parts]),
        prompt=asked.words,
        annotation=asked.annotation,
        answer=answer,
        num_tokens=len(said.ids),
        is_cut=said.is_cut,
        likelihood=likelihood(said.log_probs),
        media=asked.media,
        annotated=asked.annotated,
        predicted=tuple(predicted),
        repairs=tuple(sorted(repairs_beyond(answer, asked.annotation))),
        lost=tuple(lost),
        is_readable=read.is_list or not asked.annotated,
    )
