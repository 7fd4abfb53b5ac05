"""Fewer pixels for the media of one sample: as few as its length needs, and no fewer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sightline.data.conversation import Conversation, TextPart
from sightline.data.encode import Encoder, Measure, MediaLimits, limited
from sightline.data.media import PlannedImage, PlannedVideo
from sightline.geometry import (
    Preprocessing,
    image_grid_thw,
    resize_image,
    resize_video,
    video_grid_thw,
)

_NUMBER = r"-?\d+(?:\.\d+)?"
# Coordinates as people and Qwen's own data write them: a named box or point, four numbers in
# brackets, two pairs. The name alone is no box: questions ask for it.
_TEXT_BOX = re.compile(
    rf"(?:box|bbox|point)(?:_2d|_start\|>)\W{{0,8}}{_NUMBER}"
    rf"|[\[(]\s*{_NUMBER}\s*(?:,\s*{_NUMBER}\s*){{3}}[\])]"
    rf"|\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)\s*,?\s*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)"
)
_NUM_HALVINGS = 40
# Boxes are written anew at the new size, in more or fewer digits.
_NUM_ATTEMPTS = 4


def may_shrink(conversation: Conversation, encoder: Encoder) -> bool:
    """Whether fewer pixels leave the sample true.

    Boxes that stand in the text as pixels of the resized picture would point elsewhere.
    """
    if not encoder.writes_resized_pixels:
        return True
    return not any(
        has_coordinates(part.text)
        for message in conversation.messages
        for part in message.parts
        if isinstance(part, TextPart)
    )


def has_coordinates(text: str) -> bool:
    """Whether a text holds the numbers of a box or a point.

    >>> has_coordinates('{"bbox_2d": [1, 2, 3, 4]}'), has_coordinates("(1,2),(30.5,4)")
    (True, True)
    >>> has_coordinates("Report bbox_2d coordinates of the 4 birds in [JSON].")
    False
    """
    return _TEXT_BOX.search(text) is not None


def shrink(
    measure: Measure, encoder: Encoder, *, max_length: int, vision_share: float | None
) -> tuple[Measure, MediaLimits] | None:
    """The sample with its media at the largest size at which it fits.

    One limit of pixels holds for all its images, and one for its videos, so that the largest give
    way first. None goes under the run's min_pixels.

    Args:
        measure: The sample at its full size.
        encoder: The run's encoder.
        max_length: Longest sample, tokens.
        vision_share: Share of their tokens, or of ``max_length`` where they take more, that the
            media keep; None to let the text have all it takes.

    Returns:
        None where it does not fit at any size, or where the media would lose their share.
    """
    if measure.num_vision_tokens == 0 or not may_shrink(measure.conversation, encoder):
        return None
    room = max_length - measure.num_text_tokens
    if vision_share is not None:
        least = int(vision_share * min(measure.num_vision_tokens, max_length))
        if room < least:
            return None
    for _ in range(_NUM_ATTEMPTS):
        limits = _limits_within(measure, encoder.preprocessing, room)
        if limits is None:
            return None
        smaller = encoder.measure(measure.conversation, limits)
        if smaller.num_tokens <= max_length:
            return smaller, limits
        room -= smaller.num_tokens - max_length
    return None


def _limits_within(measure: Measure, preprocessing: Preprocessing, room: int) -> MediaLimits | None:
    """The largest limits at which the media take at most ``room`` tokens."""
    images, videos = measure.images, measure.videos
    scope = preprocessing.video_budget_scope
    image_top = max((image.resized[0] * image.resized[1] for image in images), default=0)
    video_top = max((_video_pixels(video, scope) for video in videos), default=0)

    def limits_at(scale: float) -> MediaLimits:
        return MediaLimits(
            image_max_pixels=_scaled(image_top, scale, preprocessing.image_budget.min_pixels)
            if images
            else None,
            video_max_pixels=_scaled(video_top, scale, preprocessing.video_budget.min_pixels)
            if videos
            else None,
        )

    def fits(scale: float) -> bool:
        return _num_tokens(images, videos, limited(preprocessing, limits_at(scale))) <= room

    low, high = 0.0, 1.0
    if not fits(low):
        return None
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    found = limits_at(low)
    smaller = limited(preprocessing, found)
    return None if _goes_under(images, videos, preprocessing, smaller) else found


def _scaled(pixels: int, scale: float, min_pixels: int) -> int:
    return max(int(pixels * scale), min_pixels)


def _video_pixels(video: PlannedVideo, scope: str) -> int:
    """Pixels in the scope in which the budget counts them."""
    frame = video.resized[0] * video.resized[1]
    return frame if scope == "per_frame" else frame * len(video.frame_indices)


def _num_tokens(
    images: Sequence[PlannedImage], videos: Sequence[PlannedVideo], pre: Preprocessing
) -> int:
    merge = pre.image_patching.spatial_merge_size**2
    total = 0
    for image in images:
        _, h, w = image_grid_thw(_image_size(image, pre), pre.image_patching)
        total += h * w // merge
    for video in videos:
        size = _frame_size(video, pre)
        t, h, w = video_grid_thw(len(video.frame_indices), size, pre.video_patching)
        total += t * h * w // merge
    return total


def _image_size(image: PlannedImage, pre: Preprocessing) -> tuple[int, int]:
    return resize_image(image.height, image.width, pre.image_patching, pre.image_budget)


def _frame_size(video: PlannedVideo, pre: Preprocessing) -> tuple[int, int]:
    return resize_video(
        len(video.frame_indices),
        video.height,
        video.width,
        pre.video_patching,
        pre.video_budget,
        scope=pre.video_budget_scope,
    )


def _goes_under(
    images: Sequence[PlannedImage],
    videos: Sequence[PlannedVideo],
    pre: Preprocessing,
    smaller: Preprocessing,
) -> bool:
    """Whether one of the media would have fewer pixels than min_pixels, and had more."""
    for image in images:
        height, width = _image_size(image, smaller)
        if height * width < min(pre.image_budget.min_pixels, image.resized[0] * image.resized[1]):
            return True
    for video in videos:
        height, width = _frame_size(video, smaller)
        scope = pre.video_budget_scope
        frames = 1 if scope == "per_frame" else len(video.frame_indices)
        least = min(pre.video_budget.min_pixels, _video_pixels(video, scope))
        if height * width * frames < least:
            return True
    return False
