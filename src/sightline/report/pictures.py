"""Pictures and video frames, small enough to stand inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from PIL import Image, ImageOps

MAX_SIDE_PIXELS = 640
NUM_STRIP_FRAMES = 4
_STRIP_SIDE_PIXELS = 320
_JPEG_QUALITY = 85
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture as it stands in the page.

    Attributes:
        uri: The picture itself, as a data URI.
        width: Its width in the page's file, pixels.
        height: The same for its height.
        scale: Pixels here for one pixel of the file.
        caption: What it is: name and size of the file, or the second of a frame.
    """

    uri: str
    width: int
    height: int
    scale: float
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unshown:
    """A medium that could not be read any more when the page was made.

    Attributes:
        caption: Its path.
        reason: Why it is not shown.
    """

    caption: str
    reason: str


def load_picture(path: Path) -> Picture | Unshown:
    """An image file, upright and at most 640 pixels a side.

    Args:
        path: The file.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except FileNotFoundError:
        return Unshown(caption=str(path), reason="The file is no longer there.")
    except _UNREADABLE as error:
        return Unshown(caption=str(path), reason=f"The file cannot be read: {error}")
    caption = f"{path.name}, {image.width} × {image.height} pixels"
    return embed(image, MAX_SIDE_PIXELS, caption)


def load_strip(path: Path) -> list[Picture | Unshown]:
    """Four frames of a video, evenly over its length; the first alone where that is not known.

    Args:
        path: The file.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return [Unshown(caption=str(path), reason="The file has no video in it.")]
            strip = [
                embed(image, _STRIP_SIDE_PIXELS, f"{path.name}, {seconds:.1f} s")
                for seconds, image in _frames(container, container.streams.video[0])
            ]
    except FileNotFoundError:
        return [Unshown(caption=str(path), reason="The file is no longer there.")]
    except (FFmpegError, OSError, ValueError) as error:
        return [Unshown(caption=str(path), reason=f"The file cannot be read: {error}")]
    return [*strip] or [Unshown(caption=str(path), reason="No frame of it can be decoded.")]


def embed(image: Image.Image, side: int, caption: str) -> Picture:
    """An image of any mode as a data URI: PNG or JPEG, whichever is smaller.

    Args:
        image: The image.
        side: Its longest side in the page's file, pixels.
        caption: What it is.
    """
    flat = _on_white(image)
    scale = min(1.0, side / max(image.size))
    if scale < 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        flat = flat.resize(size, Image.Resampling.LANCZOS)
    kind, data = min(
        (("png", _encoded(flat, "PNG")), ("jpeg", _encoded(flat, "JPEG"))),
        key=lambda choice: len(choice[1]),
    )
    return Picture(
        uri=f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}",
        width=flat.width,
        height=flat.height,
        scale=scale,
        caption=caption,
    )


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, Image.Image]]:
    """Frames with their seconds, counted from the first."""
    tick = stream.time_base or Fraction(1, 90_000)
    begin = float((stream.start_time or 0) * tick)
    last = -1.0
    for target in _targets(container, stream):
        container.seek(round((begin + target) / tick), stream=stream)
        for frame in container.decode(stream):
            seconds = (frame.time or 0.0) - begin
            if seconds + 1e-6 >= target and seconds > last:
                last = seconds
                yield seconds, frame.to_image().rotate(frame.rotation, expand=True)
                break


def _targets(container: InputContainer, stream: VideoStream) -> list[float]:
    """Seconds at which frames are wanted."""
    if stream.duration and stream.time_base:
        length = float(stream.duration * stream.time_base)
    elif container.duration:
        length = container.duration / 1_000_000
    else:
        return [0.0]
    return [length * place / NUM_STRIP_FRAMES for place in range(NUM_STRIP_FRAMES)]


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, transparency over white, 16-bit greys by their upper byte."""
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 256, "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def _encoded(image: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, optimize=True, quality=_JPEG_QUALITY)
    return target.getvalue()
