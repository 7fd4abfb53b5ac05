"""Frames of a video that are pictures in a list: their size, and their pixels one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sightline.config import MAX_FILE_PIXELS
from sightline.data.conversation import Origin
from sightline.data.formats.media import MediaFile
from sightline.data.images import load_image, probe_image_size


def probe_frame_files(
    paths: Sequence[Path],
    *,
    origin: Origin,
    field: str,
    max_pixels: int | None = MAX_FILE_PIXELS,
) -> tuple[int, int]:
    """Height and width of all frames, from their headers.

    Args:
        paths: The pictures, at least one.
        origin: The sample that names them, for the message.
        field: The field that names them, for the message.
        max_pixels: Most pixels that one may have.

    Raises:
        MediaError: A picture cannot be used, or two have different sizes.
    """
    sizes = [
        probe_image_size(path, origin=origin, field=f"{field}[{index}]", max_pixels=max_pixels)
        for index, path in enumerate(paths)
    ]
    [first, *_], [expected, *_] = paths, sizes
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        if size != expected:
            file = MediaFile(path=path, origin=origin, field=f"{field}[{index}]")
            raise file.error(
                f"is {size[1]} x {size[0]} pixels, and {first} is {expected[1]} x {expected[0]}: "
                "the frames of a video have one size.",
                fix="Bring the pictures to one size, or leave the sample out.",
                code="media.shape",
            )
    return expected


def each_frame_file(
    paths: Sequence[Path],
    size: tuple[int, int],
    *,
    origin: Origin,
    field: str,
    max_pixels: int | None = MAX_FILE_PIXELS,
) -> Iterator[np.ndarray]:
    """The pictures of a list one after the other, as every picture is read.

    Args:
        paths: The pictures.
        size: Height and width that each must have, pixels.
        origin: The sample that names them, for the message.
        field: The field that names them, for the message.
        max_pixels: Most pixels that one may have.

    Yields:
        pixels: (height, width, 3) uint8. RGB, upright, over white.

    Raises:
        MediaError: A picture cannot be decoded, or has another size now.
    """
    for index, path in enumerate(paths):
        image = load_image(path, origin=origin, field=f"{field}[{index}]", max_pixels=max_pixels)
        if (image.height, image.width) != size:
            file = MediaFile(path=path, origin=origin, field=f"{field}[{index}]")
            raise file.error(
                f"is {image.width} x {image.height} pixels now, and was {size[1]} x {size[0]} when "
                "the data were read.",
                fix="The file changed since: start again, and it is read anew.",
                code="media.changed",
            )
        yield np.array(image)
