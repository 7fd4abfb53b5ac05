"""From a conversation to token ids, labels and a layout, without decoding a pixel.

The text is rendered by the checkpoint's own chat template. Placeholders are expanded on token
ids: special tokens split the text before the tokenizer merges anything, so the ids are those of
the processor's own call (``tests/parity/test_encoding_processors.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sightline.data.boxes import BoxWriting, write_boxes
from sightline.data.conversation import Conversation
from sightline.data.media import PlannedImage, PlannedVideo, plan_media
from sightline.data.text import TextEncoder, template_fault
from sightline.errors import DataError
from sightline.families import Tokens
from sightline.geometry import PixelBudget, Preprocessing
from sightline.positions import Layout, PositionRule, layout_of_ids

IGNORE_INDEX = -100


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaLimits:
    """Pixel limits of one sample, below those of the run.

    Attributes:
        image_max_pixels: Most pixels of each of its images; None for the run's limit.
        video_max_pixels: Most pixels of each of its videos, in the family's own scope; None for
            the run's limit.
    """

    image_max_pixels: int | None = None
    video_max_pixels: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """A sample as the model will see it, pixels still in their files.

    Attributes:
        conversation: The parsed sample, its boxes written as text.
        input_ids: (seq,) int64.
        labels: (seq,) int64, unshifted. `IGNORE_INDEX` everywhere but on the assistant's words
            and the closing turn token.
        layout: Which tokens are text, which are patches of what grid.
        images: Images in the order of their placeholders.
        videos: Videos in the order of their placeholders.
        limits: Pixel limits that hold for this sample alone.
    """

    conversation: Conversation
    input_ids: np.ndarray
    labels: np.ndarray
    layout: Layout
    images: tuple[PlannedImage, ...]
    videos: tuple[PlannedVideo, ...]
    limits: MediaLimits = MediaLimits()

    @property
    def num_tokens(self) -> int:
        """Length of the sample."""
        return len(self.input_ids)

    @property
    def num_supervised_tokens(self) -> int:
        """Tokens that the loss sees."""
        return int((self.labels != IGNORE_INDEX).sum())


@dataclass(kw_only=True, slots=True)
class Measure:
    """What a sample costs, without its token ids.

    Attributes:
        conversation: The sample, its boxes still as boxes.
        num_text_tokens: Tokens of text, the template's included.
        num_image_tokens: Placeholders of images.
        num_video_tokens: Placeholders of videos.
        num_supervised_tokens: Tokens that the loss sees.
        images: Its images, planned.
        videos: Its videos, planned.
    """

    conversation: Conversation
    num_text_tokens: int
    num_image_tokens: int
    num_video_tokens: int
    num_supervised_tokens: int
    images: tuple[PlannedImage, ...]
    videos: tuple[PlannedVideo, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the sample."""
        return self.num_text_tokens + self.num_vision_tokens

    @property
    def num_vision_tokens(self) -> int:
        """Placeholders of images and videos."""
        return self.num_image_tokens + self.num_video_tokens


class Encoder:
    """Encodes conversations for one checkpoint.

    Args:
        processor: The checkpoint's transformers processor.
        tokens: The family's special tokens.
        preprocessing: Pixel budgets and frame sampling of the run.
        rule: The checkpoint's position rule.
        boxes: How the family writes boxes.
    """

    def __init__(
        self,
        *,
        processor: Any,
        tokens: Tokens,
        preprocessing: Preprocessing,
        rule: PositionRule,
        boxes: BoxWriting,
    ) -> None:
        self._text = TextEncoder(
            processor=processor,
            tokens=tokens,
            timestamps_in_text=preprocessing.timestamps_in_text,
        )
        self._preprocessing = preprocessing
        self._rule = rule
        self._boxes = boxes
        # Families that are trained have both.
        assert rule.image_token_id is not None
        assert rule.video_token_id is not None
        self._image_token_id: int = rule.image_token_id
        self._video_token_id: int = rule.video_token_id

    @property
    def preprocessing(self) -> Preprocessing:
        """Pixel budgets and frame sampling of the run."""
        return self._preprocessing

    def encode(
        self, conversation: Conversation, limits: MediaLimits = MediaLimits()
    ) -> EncodedSample:
        """Encode a training sample.

        Args:
            conversation: The parsed sample, ending with an answer.
            limits: Pixel limits of this sample alone.

        Raises:
            DataError: Names file, line and field.
            MediaError: An image or video cannot be used.
        """
        return self._encode(conversation, limits, generation_prompt=False)

    def encode_prompt(
        self, conversation: Conversation, limits: MediaLimits = MediaLimits()
    ) -> EncodedSample:
        """Encode the turns before the last answer, ready for generation."""
        turns = conversation.messages
        if turns[-1].role == "assistant":
            turns = turns[:-1]
        prompt = replace(conversation, messages=turns)
        return self._encode(prompt, limits, generation_prompt=True)

    @property
    def writes_resized_pixels(self) -> bool:
        """Whether boxes are pixels of the picture as it is seen, and change with its size."""
        return self._boxes.space == "resized_pixels"

    def measure_all(
        self, conversations: Sequence[Conversation], limits: MediaLimits = MediaLimits()
    ) -> list[Measure | DataError]:
        """What each conversation costs, or why it cannot be used; the tokenizer is called once."""
        preprocessing = self.limited(limits)
        results: list[Measure | DataError | None] = [None] * len(conversations)
        texts: list[str] = []
        waiting: list[tuple[int, Conversation, Sequence[PlannedImage], Sequence[PlannedVideo]]] = []
        for index, conversation in enumerate(conversations):
            try:
                images, videos = plan_media(conversation, preprocessing)
                written = write_boxes(conversation, images, self._boxes, self._preprocessing)
                texts.append(self._text.render(written, videos))
                waiting.append((index, written, images, videos))
            except DataError as fault:
                results[index] = fault
        all_ids = self._text.ids_of_all(texts)
        for (index, written, images, videos), ids in zip(waiting, all_ids, strict=True):
            try:
                whole = conversations[index]
                results[index] = self._measured(ids, written, whole, images, videos)
            except DataError as fault:
                results[index] = fault
        return [result for result in results if result is not None]

    def measure(self, conversation: Conversation, limits: MediaLimits = MediaLimits()) -> Measure:
        """What one conversation costs.

        Raises:
            DataError: It cannot be used.
        """
        [result] = self.measure_all([conversation], limits)
        if isinstance(result, DataError):
            raise result
        return result

    def vision_tokens(
        self, images: Sequence[PlannedImage], videos: Sequence[PlannedVideo]
    ) -> tuple[list[int], list[int]]:
        """Tokens of every image, and of every placeholder of the videos."""
        merge = self._rule.spatial_merge_size**2
        image_tokens = [
            image.grid_thw[0] * image.grid_thw[1] * image.grid_thw[2] // merge for image in images
        ]
        video_tokens: list[int] = []
        for video in videos:
            t, h, w = video.grid_thw
            per_grid = h * w // merge
            split = self._preprocessing.timestamps_in_text
            video_tokens.extend([per_grid] * t if split else [per_grid * t])
        return image_tokens, video_tokens

    def limited(self, limits: MediaLimits) -> Preprocessing:
        """The run's preprocessing with the limits of one sample."""
        return limited(self._preprocessing, limits)

    def _encode(
        self, conversation: Conversation, limits: MediaLimits, *, generation_prompt: bool
    ) -> EncodedSample:
        images, videos = plan_media(conversation, self.limited(limits))
        conversation = write_boxes(conversation, images, self._boxes, self._preprocessing)
        text = self._text.render(conversation, videos, generation_prompt=generation_prompt)
        listed = self._text.ids(text)
        ids = np.asarray(listed, dtype=np.int64)
        labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int64)
        if not generation_prompt:
            for where in self._text.answers(listed, conversation):
                labels[where] = ids[where]
        counts = np.ones(len(ids), dtype=np.int64)
        of_images, of_videos = self._placeholders(listed, images, videos, conversation)
        counts[ids == self._image_token_id] = of_images
        counts[ids == self._video_token_id] = of_videos
        ids, labels = np.repeat(ids, counts), np.repeat(labels, counts)
        layout = layout_of_ids(
            ids,
            self._rule,
            image_grid_thw=[image.grid_thw for image in images],
            video_grid_thw=[video.grid_thw for video in videos],
            second_per_grid_ts=[video.seconds_per_grid for video in videos],
            where=f"{conversation.origin}: ",
        )
        return EncodedSample(
            conversation=conversation,
            input_ids=ids,
            labels=labels,
            layout=layout,
            images=images,
            videos=videos,
            limits=limits,
        )

    def _measured(
        self,
        ids: list[int],
        written: Conversation,
        whole: Conversation,
        images: Sequence[PlannedImage],
        videos: Sequence[PlannedVideo],
    ) -> Measure:
        answers = self._text.answers(ids, written)
        of_images, of_videos = self._placeholders(ids, images, videos, written)
        return Measure(
            conversation=whole,
            num_text_tokens=len(ids) - len(of_images) - len(of_videos),
            num_image_tokens=sum(of_images),
            num_video_tokens=sum(of_videos),
            num_supervised_tokens=sum(where.stop - where.start for where in answers),
            images=tuple(images),
            videos=tuple(videos),
        )

    def _placeholders(
        self,
        ids: list[int],
        images: Sequence[PlannedImage],
        videos: Sequence[PlannedVideo],
        conversation: Conversation,
    ) -> tuple[list[int], list[int]]:
        """Tokens that each placeholder of an image stands for, and each of a video."""
        of_images, of_videos = self.vision_tokens(images, videos)
        found = ids.count(self._image_token_id)
        if found != len(of_images):
            raise template_fault(conversation, "image", found, len(of_images))
        found = ids.count(self._video_token_id)
        if found != len(of_videos):
            raise template_fault(conversation, "video", found, len(of_videos))
        return of_images, of_videos


def limited(preprocessing: Preprocessing, limits: MediaLimits) -> Preprocessing:
    """Preprocessing with the limits of one sample; they never raise the run's own."""
    changed = preprocessing
    if limits.image_max_pixels is not None:
        budget = _lowered(preprocessing.image_budget, limits.image_max_pixels)
        changed = replace(changed, image_budget=budget)
    if limits.video_max_pixels is not None:
        budget = _lowered(preprocessing.video_budget, limits.video_max_pixels)
        changed = replace(changed, video_budget=budget)
    return changed


def _lowered(budget: PixelBudget, max_pixels: int) -> PixelBudget:
    return replace(budget, max_pixels=max(min(budget.max_pixels, max_pixels), budget.min_pixels))
