"""Images: their size from the header, and their pixels as the processors take them.

Both follow the EXIF orientation. Transparency is laid over white, as ``qwen-vl-utils`` and the
image processors of transformers 5.23 do with a picture that is handed to them. Given
a path, transformers drops the alpha channel instead (``transformers.image_utils.load_image``), and
so do the processors of 5.17 with a picture: what was hidden becomes visible. A picture from here is
RGB already, so it is the same in every version.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from sightline.data.conversation import Origin
from sightline.data.formats.media import MediaFile
from sightline.data.headers import read_size

# The limit of smart_resize in the Qwen processors, which raise beyond it.
MAX_ASPECT_RATIO = 200

# More than 8 bits a channel: Pillow clips these to white on the way to RGB.
_DEEP_MODES = ("I", "F")
_SIDEWAYS = (5, 6, 7, 8)
_PNG_SIGNATURE_NUM_BYTES = 8
_LATE_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")

# What Pillow raises for damaged files besides OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def probe_image_size(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> tuple[int, int]:
    """The size that ``load_image`` will have, from the header, without decoding a pixel.

    Args:
        path: The image file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.

    Returns:
        Height and width in pixels, after the EXIF orientation.

    Raises:
        MediaError: It is missing, no image, too large, of no size, or too narrow.
    """
    if (size := _ordinary_size(path, content)) is not None:
        return size
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with _opened(file) as image:
        width, height = image.size
        if _orientation(image, file) in _SIDEWAYS:
            width, height = height, width
        _check_shape(image, file)
        return height, width


def load_image(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> Image.Image:
    """The image as RGB, upright, transparency over white.

    Args:
        path: The image file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.

    Raises:
        MediaError: As ``probe_image_size``, or the pixels are truncated or damaged.

    Reference:
        ``convert_to_rgb`` of transformers 5.23 after ``PIL.ImageOps.exif_transpose``, checked in
        tests/unit/data/test_images.py.
    """
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with _opened(file) as image:
        _check_shape(image, file)
        return _over_white(ImageOps.exif_transpose(image))


def _ordinary_size(path: Path, content: bytes | None) -> tuple[int, int] | None:
    """The size from the first bytes; None where Pillow should look, and say what is wrong."""
    try:
        # A read or two, which a buffer would only slow down.
        with io.FileIO(path) if content is None else io.BytesIO(content) as opened:
            size = read_size(opened)
    except (OSError, ValueError):
        return None
    if size is None or max(size) > MAX_ASPECT_RATIO * min(size):
        return None
    is_large = Image.MAX_IMAGE_PIXELS is not None and size[0] * size[1] > Image.MAX_IMAGE_PIXELS
    return None if is_large else size


def _over_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


@contextmanager
def _opened(file: MediaFile) -> Iterator[Image.Image]:
    """The opened image; what goes wrong inside becomes a MediaError."""
    code = "media.damaged"
    try:
        with file.open() as opened, Image.open(opened) as image:
            yield image
    except FileNotFoundError as error:
        what, cause, code = "does not exist.", error, "media.missing"
    except UnidentifiedImageError as error:
        what, cause = "is not an image that Pillow can read.", error
    except Image.DecompressionBombError as error:
        what, cause = f"is too large: {error}", error
    except _DAMAGE as error:
        refused = error.strerror if isinstance(error, OSError) else None
        what = f"cannot be read: {refused}." if refused else f"is truncated or damaged: {error}."
        cause = error
    else:
        return
    fix = "Mend or replace the file, or leave the sample out."
    raise file.error(what, fix=fix, code=code) from cause


def _check_shape(image: Image.Image, file: MediaFile) -> None:
    width, height = image.size
    if image.mode.startswith(_DEEP_MODES):
        what = f"has more than 8 bits a channel (Pillow mode {image.mode}) and would be clipped."
        fix = "Convert it to 8 bits a channel."
    elif min(width, height) < 1:
        what = f"is {width} x {height} pixels and has no content."
        fix = "Replace the file, or leave the sample out."
    elif max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        ratio = max(width, height) / min(width, height)
        what = (
            f"is {width} x {height} pixels, an aspect ratio of {ratio:.0f}; "
            f"the processors take up to {MAX_ASPECT_RATIO}."
        )
        fix = "Cut the picture, or leave the sample out."
    else:
        return
    raise file.error(what, fix=fix, code="media.shape")


def _orientation(image: Image.Image, file: MediaFile) -> int:
    """The EXIF orientation that ``image.size`` does not hold yet, 1 to 8."""
    if image.format == "TIFF":
        # Pillow turns TIFF files itself, and their size with them.
        return 1
    if isinstance(image, PngImageFile) and not _has_late_metadata(file):
        # PngImageFile.getexif decodes the whole picture to reach chunks behind the pixels.
        exif = Image.Image.getexif(image)
    else:
        exif = image.getexif()
    return exif.get(ExifTags.Base.Orientation, 1)


def _has_late_metadata(source: MediaFile) -> bool:
    """Whether a PNG file has chunks behind its pixels that may hold an orientation."""
    seen_pixels = False
    with source.open() as file:
        file.seek(_PNG_SIGNATURE_NUM_BYTES)
        while len(header := file.read(8)) == 8:
            num_bytes, kind = struct.unpack(">I4s", header)
            if seen_pixels and kind in _LATE_CHUNKS:
                return True
            seen_pixels = seen_pixels or kind == b"IDAT"
            # The chunk and its checksum.
            file.seek(num_bytes + 4, 1)
    return False
