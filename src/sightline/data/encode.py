"""From a conversation to token ids, labels and a layout, without decoding a pixel.

The text is rendered by the checkpoint's own chat template. Placeholders are expanded on token
ids: special tokens split the text before the tokenizer merges anything, so the ids are those of
the processor's own call (``tests/parity/test_encoding_processors.py``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.data.conversation import Conversation, ImagePart, TextPart
from sightline.data.media import PlannedImage, PlannedVideo, plan_media
from sightline.errors import DataError
from sightline.families import Tokens
from sightline.geometry import Preprocessing
from sightline.positions import Layout, PositionRule, layout_of_ids

IGNORE_INDEX = -100


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """A sample as the model will see it, pixels still in their files.

    Attributes:
        conversation: The parsed sample.
        input_ids: (seq,) int64.
        labels: (seq,) int64, unshifted. `IGNORE_INDEX` everywhere but on the assistant's words
            and the closing turn token.
        layout: Which tokens are text, which are patches of what grid.
        images: Images in the order of their placeholders.
        videos: Videos in the order of their placeholders.
    """

    conversation: Conversation
    input_ids: np.ndarray
    labels: np.ndarray
    layout: Layout
    images: tuple[PlannedImage, ...]
    videos: tuple[PlannedVideo, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the sample."""
        return len(self.input_ids)

    @property
    def num_supervised_tokens(self) -> int:
        """Tokens that the loss sees."""
        return int((self.labels != IGNORE_INDEX).sum())


class Encoder:
    """Encodes conversations for one checkpoint.

    Args:
        processor: The checkpoint's transformers processor.
        tokens: The family's special tokens.
        preprocessing: Pixel budgets and frame sampling of the run.
        rule: The checkpoint's position rule.
    """

    def __init__(
        self, *, processor: Any, tokens: Tokens, preprocessing: Preprocessing, rule: PositionRule
    ) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._tokens = tokens
        self._preprocessing = preprocessing
        self._rule = rule
        self._answer = re.compile(
            re.escape(f"{tokens.turn_start}assistant\n") + "(.*?)" + re.escape(tokens.turn_end),
            re.DOTALL,
        )

    def encode(self, conversation: Conversation, *, max_length: int | None = None) -> EncodedSample:
        """Encode a training sample.

        Args:
            conversation: The parsed sample, ending with an answer.
            max_length: Longest sample allowed, tokens; None for no limit.

        Raises:
            DataError: Names file, line and field; also when the sample is over ``max_length``.
            MediaError: An image or video cannot be used.
        """
        images, videos = plan_media(conversation, self._preprocessing)
        text = self._render(conversation, generation_prompt=False)
        text = self._announce_frames(text, videos, conversation)
        ids, offsets = self._tokenize(text)
        labels = self._labels(text, ids, offsets, conversation)
        ids, labels = self._expand(ids, labels, images, videos, conversation)
        sample = EncodedSample(
            conversation=conversation,
            input_ids=ids,
            labels=labels,
            layout=self._layout(ids, images, videos, conversation),
            images=images,
            videos=videos,
        )
        if max_length is not None and sample.num_tokens > max_length:
            raise _too_long(sample, max_length)
        return sample

    def encode_prompt(self, conversation: Conversation) -> EncodedSample:
        """Encode the turns before the last answer, ready for generation."""
        turns = conversation.messages
        if turns[-1].role == "assistant":
            turns = turns[:-1]
        prompt = Conversation(messages=turns, origin=conversation.origin)
        images, videos = plan_media(prompt, self._preprocessing)
        text = self._render(prompt, generation_prompt=True)
        text = self._announce_frames(text, videos, prompt)
        ids, _ = self._tokenize(text)
        labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int64)
        ids, labels = self._expand(ids, labels, images, videos, prompt)
        return EncodedSample(
            conversation=prompt,
            input_ids=ids,
            labels=labels,
            layout=self._layout(ids, images, videos, prompt),
            images=images,
            videos=videos,
        )

    def _render(self, conversation: Conversation, *, generation_prompt: bool) -> str:
        return self._processor.apply_chat_template(
            chat_messages(conversation), tokenize=False, add_generation_prompt=generation_prompt
        )

    def _announce_frames(
        self, text: str, videos: Sequence[PlannedVideo], conversation: Conversation
    ) -> str:
        """One placeholder per temporal grid, each after its time, where the family wants that."""
        if not self._preprocessing.timestamps_in_text or not videos:
            return text
        tokens = self._tokens
        frame = tokens.vision_start + tokens.video_pad + tokens.vision_end
        pieces = text.split(tokens.video_pad)
        if len(pieces) != len(videos) + 1:
            raise _template_fault(conversation, "video", len(pieces) - 1, len(videos))
        joined = pieces[0]
        for video, after in zip(videos, pieces[1:], strict=True):
            joined += "".join(f"<{seconds:.1f} seconds>{frame}" for seconds in video.timestamps)
            joined += after
        return joined

    def _tokenize(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.asarray(encoded["input_ids"], dtype=np.int64)
        return ids, np.asarray(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)

    def _labels(
        self, text: str, ids: np.ndarray, offsets: np.ndarray, conversation: Conversation
    ) -> np.ndarray:
        """The assistant's words and the token that closes the turn; nothing else.

        Data cannot contain turn tokens (they are refused when it is read), so every match in
        the rendered text is a turn of the template.
        """
        labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int64)
        answers = [m for m in conversation.messages if m.role == "assistant"]
        matches = list(self._answer.finditer(text))
        if len(matches) != len(answers):
            raise _template_fault(conversation, "assistant turn", len(matches), len(answers))
        for match, message in zip(matches, answers, strict=True):
            start, stop = match.start(1), match.end()
            first = int(np.searchsorted(offsets[:, 0], start, side="left"))
            if first > 0 and offsets[first - 1, 1] > start:
                raise DataError(
                    "the answer begins with white space that fuses with the line break of the "
                    "chat template into one token; the model could never be asked for it.",
                    file=conversation.origin.file,
                    line=conversation.origin.line,
                    field=message.field,
                    fix="Remove the white space at the start of the answer.",
                )
            last = int(np.searchsorted(offsets[:, 0], stop, side="left"))
            labels[first:last] = ids[first:last]
        return labels

    def _expand(
        self,
        ids: np.ndarray,
        labels: np.ndarray,
        images: Sequence[PlannedImage],
        videos: Sequence[PlannedVideo],
        conversation: Conversation,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Repeat every placeholder for the tokens its grid takes."""
        counts = np.ones(len(ids), dtype=np.int64)
        merge = self._rule.spatial_merge_size**2
        image_tokens = [int(np.prod(image.grid_thw)) // merge for image in images]
        video_tokens: list[int] = []
        for video in videos:
            t, h, w = video.grid_thw
            per_grid = h * w // merge
            split = self._preprocessing.timestamps_in_text
            video_tokens.extend([per_grid] * t if split else [per_grid * t])
        for kind, token_id, lengths in (
            ("image", self._rule.image_token_id, image_tokens),
            ("video", self._rule.video_token_id, video_tokens),
        ):
            where = np.flatnonzero(ids == token_id)
            if len(where) != len(lengths):
                raise _template_fault(conversation, kind, len(where), len(lengths))
            counts[where] = lengths
        return np.repeat(ids, counts), np.repeat(labels, counts)

    def _layout(
        self,
        ids: np.ndarray,
        images: Sequence[PlannedImage],
        videos: Sequence[PlannedVideo],
        conversation: Conversation,
    ) -> Layout:
        return layout_of_ids(
            ids,
            self._rule,
            image_grid_thw=[image.grid_thw for image in images],
            video_grid_thw=[video.grid_thw for video in videos],
            second_per_grid_ts=[video.seconds_per_grid for video in videos],
            where=f"{conversation.origin}: ",
        )


def chat_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The conversation as the chat template takes it, media named by their paths."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "image", "image": str(part.path)}
                if isinstance(part, ImagePart)
                else {"type": "video", "video": str(part.path)}
                for part in message.parts
            ],
        }
        for message in conversation.messages
    ]


def _template_fault(conversation: Conversation, kind: str, found: int, wanted: int) -> DataError:
    return DataError(
        f"the chat template rendered {found} {kind} placeholders or turns for a conversation "
        f"that has {wanted}.",
        file=conversation.origin.file,
        line=conversation.origin.line,
        fix="Use the chat template that belongs to the checkpoint.",
    )


def _too_long(sample: EncodedSample, max_length: int) -> DataError:
    vision = sample.layout.num_vision_tokens
    media = [(image.part.field, image.grid_thw) for image in sample.images]
    media += [(video.part.field, video.grid_thw) for video in sample.videos]
    largest = max(media, key=lambda item: int(np.prod(item[1])), default=None)
    advice = f"Raise data.max_length to at least {sample.num_tokens}"
    if largest is not None:
        advice += f", or lower max_pixels of data.images or data.videos ({largest[0]} is largest)"
    return DataError(
        f"the sample takes {sample.num_tokens} tokens ({vision} of them vision), over "
        f"max_length {max_length}. Nothing is cut: a cut would go through images or answers.",
        file=sample.conversation.origin.file,
        line=sample.conversation.origin.line,
        field=largest[0] if largest is not None else None,
        fix=f"{advice}.",
    )
