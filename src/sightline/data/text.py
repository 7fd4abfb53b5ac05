"""Text of a conversation as token ids, and which of them the loss sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.data.conversation import Conversation
from sightline.data.media import PlannedVideo
from sightline.data.skeleton import SkeletonRenderer, chat_messages
from sightline.errors import DataError
from sightline.families import Tokens

_MAX_SYSTEM_TURNS = 1024
_ANSWER_HEADER = "assistant\n"


class TextEncoder:
    """Renders, tokenises and finds the answers, for one checkpoint.

    Placeholders are not expanded here: each stands for its image, or for a temporal grid of its
    video.

    Args:
        processor: The checkpoint's transformers processor.
        tokens: The family's special tokens.
        timestamps_in_text: Whether every temporal grid of a video is announced by its time.
    """

    def __init__(self, *, processor: Any, tokens: Tokens, timestamps_in_text: bool) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._tokens = tokens
        self._timestamps_in_text = timestamps_in_text
        template = processor.chat_template or processor.tokenizer.chat_template
        self._rendered = SkeletonRenderer(
            template if isinstance(template, str) else "{{ unknown | x }}", self._render_messages
        )
        self._turn_start: int = self._tokenizer.convert_tokens_to_ids(tokens.turn_start)
        self._turn_end: int = self._tokenizer.convert_tokens_to_ids(tokens.turn_end)
        self._header: list[int] = self.ids(_ANSWER_HEADER)
        self._system_start = f"{tokens.turn_start}system"
        self._system_turns: dict[str, list[int]] = {}
        closing = self._tokenizer.added_tokens_decoder.get(self._turn_end)
        self._cuts_at_turn_end = closing is not None and not (
            closing.lstrip or closing.rstrip or closing.single_word or closing.normalized
        )

    def render(
        self,
        conversation: Conversation,
        videos: Sequence[PlannedVideo],
        *,
        generation_prompt: bool = False,
    ) -> str:
        """The text that the model reads, one placeholder for each image and temporal grid."""
        if generation_prompt:
            text = self._render_messages(chat_messages(conversation), generation_prompt=True)
        else:
            text = self._rendered(conversation)
        if self._timestamps_in_text and videos:
            return self._announce_frames(text, videos, conversation)
        return text

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def ids_of_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts; faster than one by one."""
        if not self._tokenizer.is_fast:
            return [self.ids(text) for text in texts]
        backend = self._tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        cut = [self._after_system(text) for text in texts]
        rests = [text[at:] for text, at in zip(texts, cut, strict=True)]
        made = backend.encode_batch_fast(rests, add_special_tokens=False)
        return [
            self._ids_of_system(text[:at]) + item.ids if at else item.ids
            for text, at, item in zip(texts, cut, made, strict=True)
        ]

    def _after_system(self, text: str) -> int:
        """Where the system turn ends, which is the same in most conversations; 0 for none.

        A tokenizer cuts at its own tokens first, so the ids of both sides are the ids of the whole.
        """
        if not self._cuts_at_turn_end or not text.startswith(self._system_start):
            return 0
        end = text.find(self._tokens.turn_end)
        return 0 if end < 0 else end + len(self._tokens.turn_end)

    def _ids_of_system(self, turn: str) -> list[int]:
        if turn not in self._system_turns:
            if len(self._system_turns) >= _MAX_SYSTEM_TURNS:
                self._system_turns.clear()
            self._system_turns[turn] = self.ids(turn)
        return self._system_turns[turn]

    def answers(self, ids: list[int], conversation: Conversation) -> list[slice]:
        """The words of every trained answer and the token that closes its turn.

        Data cannot contain turn tokens (they are refused when it is read), so every turn token is
        one of the template's.

        Args:
            ids: Token ids of the conversation, placeholders expanded or not.
            conversation: The parsed sample.

        Raises:
            DataError: The template rendered another number of answers, or an answer begins with
                white space that fuses with the template's line break.
        """
        wanted = [message for message in conversation.messages if message.role == "assistant"]
        found: list[slice] = []
        position, header = 0, self._header
        while (start := _find(ids, self._turn_start, position)) is not None:
            position = start + 1
            first = position + len(header)
            if ids[position:first] == header:
                last = _find(ids, self._turn_end, first)
                found.append(slice(first, len(ids) if last is None else last + 1))
                position = first
            elif ids[position : first - 1] == header[:-1] and len(found) < len(wanted):
                raise conversation.origin.error(
                    "the answer begins with white space that fuses with the line break of the "
                    "chat template into one token; the model could never be asked for it.",
                    field=wanted[len(found)].field,
                    fix="Remove the white space at the start of the answer.",
                    code="answer.space",
                )
        if len(found) != len(wanted):
            raise template_fault(conversation, "assistant turn", len(found), len(wanted))
        return [where for where, message in zip(found, wanted, strict=True) if message.is_trained]

    def _render_messages(
        self, messages: Sequence[dict[str, Any]], *, generation_prompt: bool = False
    ) -> str:
        return self._processor.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt
        )

    def _announce_frames(
        self, text: str, videos: Sequence[PlannedVideo], conversation: Conversation
    ) -> str:
        """One placeholder per temporal grid, each after its time, where the family wants that."""
        tokens = self._tokens
        frame = tokens.vision_start + tokens.video_pad + tokens.vision_end
        pieces = text.split(tokens.video_pad)
        if len(pieces) != len(videos) + 1:
            raise template_fault(conversation, "video", len(pieces) - 1, len(videos))
        joined = pieces[0]
        for video, after in zip(videos, pieces[1:], strict=True):
            joined += "".join(f"<{seconds:.1f} seconds>{frame}" for seconds in video.timestamps)
            joined += after
        return joined


def template_fault(conversation: Conversation, kind: str, found: int, wanted: int) -> DataError:
    """The template rendered something else than the conversation has."""
    return conversation.origin.error(
        f"the chat template rendered {found} {kind} placeholders or turns for a conversation "
        f"that has {wanted}.",
        fix="Use the chat template that belongs to the checkpoint.",
        code="template.wrong",
    )


def _find(ids: list[int], wanted: int, start: int) -> int | None:
    try:
        return ids.index(wanted, start)
    except ValueError:
        return None
