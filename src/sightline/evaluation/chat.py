"""A conversation with a model: media by path, answers as they are written.

Turns are encoded, media prepared and tokens placed as in training. The whole conversation is read
again for every answer, so that nothing of an earlier one is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from sightline.data import (
    BoxWriting,
    Collator,
    Conversation,
    EncodedSample,
    Encoder,
    ImagePart,
    Message,
    Origin,
    Part,
    ProcessorPixels,
    TextPart,
    VideoPart,
)
from sightline.errors import DataError
from sightline.evaluation.generate import answer_text
from sightline.evaluation.serving import Loaded
from sightline.geometry import BoxFrame
from sightline.model import Checkpoint

_HALF_CHARACTER = "\ufffd"


class Chat:
    """A conversation that goes on.

    Args:
        loaded: The model, given what its processor makes.
        checkpoint: Its configuration and processor.
        max_new_tokens: Bound on an answer, tokens.
        temperature: 0 for greedy answers; over 0 they are drawn.
        system: A system prompt; None for the chat template's own.
    """

    def __init__(
        self,
        loaded: Loaded,
        checkpoint: Checkpoint,
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        system: str | None = None,
    ) -> None:
        self._loaded, self._checkpoint = loaded, checkpoint
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature
        self._encoder = Encoder(
            processor=checkpoint.processor,
            tokens=checkpoint.family.tokens,
            preprocessing=checkpoint.preprocessing,
            rule=checkpoint.position_rule,
            boxes=BoxWriting.of(checkpoint.family),
        )
        self._collate = Collator(
            pixels=ProcessorPixels(checkpoint.processor),
            rule=checkpoint.position_rule,
            pad_token_id=self._closing()[1],
            padding_side="left",
        )
        self._begin = () if system is None else (_message("system", [TextPart(text=system)], 0),)
        self._turns: tuple[Message, ...] = self._begin
        self._frame: tuple[Path, BoxFrame] | None = None

    def clear(self) -> None:
        """Forget everything that was said."""
        self._turns, self._frame = self._begin, None

    def ask(
        self,
        text: str,
        *,
        images: Sequence[Path] = (),
        videos: Sequence[Path] = (),
        on_text: Callable[[str], None] = lambda text: None,
    ) -> str:
        """Ask, and get an answer; both are part of the conversation from then on.

        Args:
            text: The question.
            images: Pictures that stand before it.
            videos: Videos that stand before it, after the pictures.
            on_text: Given each piece of the answer as it is written.

        Raises:
            DataError: A file cannot be used, or the conversation is too long for the model; what
                was asked is not part of it then.
        """
        self._refuse_control(text)
        number = len(self._turns)
        parts: list[Part] = [
            *(ImagePart(path=path.absolute(), field=str(path)) for path in images),
            *(VideoPart(path=path.absolute(), field=str(path)) for path in videos),
            TextPart(text=text),
        ]
        asked = (*self._turns, _message("user", parts, number))
        sample = self._encoded(asked)
        answer = self._answer(sample, on_text)
        self._turns = (*asked, _message("assistant", [TextPart(text=answer)], number + 1))
        if images:
            self._frame = images[-1], sample.images[-1].box_frame(self._checkpoint.family.box_space)
        return answer

    def _refuse_control(self, text: str) -> None:
        """A question with a turn's end or a placeholder in it would be another conversation."""
        structural = self._checkpoint.family.tokens.structural()
        found = next((token for token in structural if token in text), None)
        if found is not None:
            raise DataError(
                f"the question has the control token {found} in it.",
                fix="Leave it out; pictures and videos are named by their paths.",
            )

    @property
    def picture(self) -> tuple[Path, BoxFrame] | None:
        """The last picture of the conversation, with what boxes in an answer refer to."""
        return self._frame

    def _encoded(self, turns: tuple[Message, ...]) -> EncodedSample:
        origin = Origin(file=Path("conversation"), line=len(turns), index=0)
        sample = self._encoder.encode_prompt(Conversation(messages=turns, origin=origin))
        limit = self._checkpoint.max_length
        if sample.num_tokens + self._max_new_tokens > limit:
            raise DataError(
                f"the conversation has {sample.num_tokens} tokens, and {self._max_new_tokens} of "
                f"an answer would pass the {limit} that the model was made for.",
                fix="Begin anew with /clear, or take a smaller --max-new-tokens.",
            )
        return sample

    def _answer(self, sample: EncodedSample, on_text: Callable[[str], None]) -> str:
        model, checkpoint = self._loaded.model, self._checkpoint
        batch = {key: value.to(model.device) for key, value in self._collate([sample]).items()}
        del batch["labels"]
        written = _Written(checkpoint, on_text)
        with torch.no_grad(), self._loaded.arithmetic():
            model.generate(**batch, generation_config=self._settings(), streamer=written)
        return written.text

    def _settings(self) -> GenerationConfig:
        # Every field that steers the choice: unset ones come from the checkpoint's own.
        drawn = {"do_sample": True, "temperature": self._temperature, "top_k": 0, "top_p": 1.0}
        closing = self._closing()
        return GenerationConfig(
            **(drawn if self._temperature > 0 else {"do_sample": False}),
            num_beams=1,
            repetition_penalty=1.0,
            max_new_tokens=self._max_new_tokens,
            eos_token_id=closing,
            pad_token_id=closing[1],
            use_cache=True,
        )

    def _closing(self) -> list[int]:
        checkpoint = self._checkpoint
        tokens = checkpoint.family.tokens
        return checkpoint.processor.tokenizer.convert_tokens_to_ids(
            [tokens.turn_end, tokens.end_of_text]
        )


class _Written:
    """An answer as it is written; what `generate` calls a streamer."""

    def __init__(self, checkpoint: Any, on_text: Callable[[str], None]) -> None:
        self._tokenizer = checkpoint.processor.tokenizer
        self._tokens = checkpoint.family.tokens
        self._on_text = on_text
        self._ids: list[int] | None = None
        self.text = ""
        """All of it so far."""

    def put(self, value: torch.Tensor) -> None:
        """Token ids: the prompt first, then one at a time."""
        if self._ids is None:
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        whole = answer_text(self._ids, self._tokenizer, self._tokens)
        if not whole.endswith(_HALF_CHARACTER):
            self._tell(whole)

    def end(self) -> None:
        """The answer is over."""
        self._tell(answer_text(self._ids or [], self._tokenizer, self._tokens))

    def _tell(self, whole: str) -> None:
        if len(whole) > len(self.text):
            self._on_text(whole[len(self.text) :])
        self.text = whole


def _message(role: Any, parts: Sequence[Part], number: int) -> Message:
    return Message(role=role, parts=tuple(parts), field=f"turn {number + 1}")
