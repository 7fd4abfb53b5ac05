"""Files to pixels at the size that the model sees, as bytes.

An ordinary JPEG is decoded by simplejpeg, straight into an array: half the time of Pillow and the
same bytes, because both are libjpeg-turbo with the same settings. Everything else is Pillow's, with
orientation, transparency and depth seen to (`sightline.data.images`); so is a JPEG with the least
damage, which simplejpeg refuses and Pillow reads or explains.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import ExifTags, Image
from simplejpeg import decode_jpeg
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from sightline.config import MAX_FILE_PIXELS
from sightline.data.conversation import ImagePart, Origin
from sightline.data.frames import each_frame_of
from sightline.data.images import load_image
from sightline.data.media import PlannedImage, PlannedVideo
from sightline.data.opening import DAMAGE, pillow_settings
from sightline.errors import MediaError
from sightline.geometry import PixelRecipe, Resample

_FILTERS: dict[Resample, tuple[InterpolationMode, Image.Resampling]] = {
    "bilinear": (InterpolationMode.BILINEAR, Image.Resampling.BILINEAR),
    "bicubic": (InterpolationMode.BICUBIC, Image.Resampling.BICUBIC),
}


def seen_image(
    image: PlannedImage, origin: Origin, recipe: PixelRecipe, content: bytes | None = None
) -> np.ndarray:
    """An image as the model sees it.

    Args:
        image: The planned image.
        origin: The sample that names it, for the message.
        recipe: The run's recipe for images.
        content: The bytes of its file, where they have been read already.

    Returns:
        picture: (3, height, width) uint8 RGB, at ``image.resized``.

    Raises:
        MediaError: It cannot be decoded, or has another size than when it was planned.
    """
    # The limit of the run was held when it was planned, and may be over the usual one.
    limit = max(image.height * image.width, MAX_FILE_PIXELS)
    picture = decode_picture(image.part, origin, content, max_pixels=limit)
    size = (int(picture.shape[1]), int(picture.shape[2]))
    if size != (image.height, image.width):
        raise origin.error(
            f"{image.part.path}: it is {size[1]} x {size[0]} pixels now, and was "
            f"{image.width} x {image.height} when the data were read.",
            field=image.part.field,
            fix="The file changed since: start again, and it is read anew.",
            code="media.changed",
            kind=MediaError,
        )
    return resized(picture[None], image.resized, recipe)[0]


def seen_frames(video: PlannedVideo, origin: Origin, recipe: PixelRecipe) -> np.ndarray:
    """The frames of a video as the model sees them.

    Returns:
        frames: (num_frames, 3, height, width) uint8 RGB, at ``video.resized``.

    Raises:
        MediaError: The file cannot be decoded, or a frame is not there.
    """
    made = np.empty((len(video.frame_indices), 3, *video.resized), dtype=np.uint8)
    # One by one: neither whole frames nor the copies that a filter makes of them would be bounded.
    for place, pixels in enumerate(each_frame_of(video, origin)):
        frame = torch.from_numpy(pixels).permute(2, 0, 1)
        made[place] = resized(frame[None], video.resized, recipe)[0]
    return made


def decode_all(
    images: Sequence[PlannedImage], videos: Sequence[PlannedVideo], origin: Origin
) -> None:
    """Decode the media of a sample, and keep nothing.

    Raises:
        MediaError: One of them cannot be decoded.
    """
    for image in images:
        limit = max(image.height * image.width, MAX_FILE_PIXELS)
        decode_picture(image.part, origin, max_pixels=limit)
    for video in videos:
        for _ in each_frame_of(video, origin):
            pass


def decode_picture(
    part: ImagePart,
    origin: Origin,
    content: bytes | None = None,
    *,
    max_pixels: int = MAX_FILE_PIXELS,
) -> torch.Tensor:
    """An image of a sample, upright and over white.

    Args:
        part: Where it stands.
        origin: The sample that names it, for the message.
        content: The bytes of its file, where they have been read already.
        max_pixels: Most pixels that its header may state.

    Returns:
        picture: (3, height, width) uint8 RGB; its numbers lie in the order height, width, channel.

    Raises:
        MediaError: See `sightline.data.images.load_image`.
    """
    content = part.content if content is None else content
    if content is None:
        try:
            content = part.path.read_bytes()
        except OSError:
            # Pillow's way says what is wrong with the file.
            return _by_pillow(part, origin, None, max_pixels)
    if _is_ordinary_jpeg(content, max_pixels):
        try:
            return torch.from_numpy(decode_jpeg(content, "RGB")).permute(2, 0, 1)
        except ValueError:
            pass
    return _by_pillow(part, origin, content, max_pixels)


def resized(pictures: torch.Tensor, size: tuple[int, int], recipe: PixelRecipe) -> np.ndarray:
    """Pictures at another size, with the filter of the processor.

    Args:
        pictures: (num, 3, height, width) uint8.
        size: Height and width in pixels.
        recipe: Filter and backend.

    Returns:
        pictures: (num, 3, height, width) uint8.
    """
    of_torch, of_pillow = _FILTERS[recipe.resample]
    if recipe.backend == "torch":
        made = transforms.resize(pictures, list(size), interpolation=of_torch, antialias=True)
        return made.contiguous().numpy()
    return np.stack(
        [
            np.asarray(
                Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(
                    (size[1], size[0]), of_pillow
                )
            ).transpose(2, 0, 1)
            for picture in pictures
        ]
    )


def _by_pillow(
    part: ImagePart, origin: Origin, content: bytes | None, max_pixels: int
) -> torch.Tensor:
    image = load_image(
        part.path, origin=origin, field=part.field, content=content, max_pixels=max_pixels
    )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _is_ordinary_jpeg(content: bytes, max_pixels: int) -> bool:
    """Whether it is a JPEG that needs no turning and no conversion but the usual one."""
    if not content.startswith(b"\xff\xd8\xff"):
        return False
    try:
        with pillow_settings(max_pixels), Image.open(io.BytesIO(content)) as image:
            return (
                image.format == "JPEG"
                and image.mode in ("RGB", "L")
                and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            )
    except (*DAMAGE, Image.DecompressionBombError):
        # What it is, is said when it is loaded.
        return False
