"""Images: their size from the header, and their pixels as the processors take them.

Both follow the EXIF orientation. Transparency is laid over white, as ``qwen-vl-utils`` and the
image processors of transformers 5.23 do with a picture that is handed to them. Given
a path, transformers drops the alpha channel instead (``transformers.image_utils.load_image``), and
so do the processors of 5.17 with a picture: what was hidden becomes visible. Greys of 16 bits keep
their high byte, as Pillow does with colours of 16 bits; converted by Pillow, they are clipped to
white. A picture from here is RGB already, so it is the same in every version. docs/pictures.md has
every kind of picture, and what other tools make of it.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from transformers.image_utils import load_image as load_image_of_transformers

from sightline.config import MAX_FILE_PIXELS
from sightline.data.conversation import Origin
from sightline.data.formats.media import MediaFile
from sightline.data.headers import is_cut, read_size
from sightline.data.opening import DAMAGE, opened_image, pillow_settings

# The limit of smart_resize in the Qwen processors, which raise beyond it.
MAX_ASPECT_RATIO = 200

_SIDEWAYS = (5, 6, 7, 8)
_MAX_ORIENTATION = 8
_PNG_SIGNATURE_NUM_BYTES = 8
_LATE_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
# Files whose numbers are of 16 bits where Pillow's mode says 32.
_SIXTEEN_BITS_AS_I = ("PNG", "PPM")
_WHITE_IS_ZERO = 0


def probe_image_size(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
    max_pixels: int | None = MAX_FILE_PIXELS,
) -> tuple[int, int]:
    """The size that ``load_image`` will have, from the header, without decoding a pixel.

    A file that lacks its end is the exception: it is decoded, to see whether it is truncated.

    Args:
        path: The image file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.
        max_pixels: Most pixels that the header may state; None for no limit.

    Returns:
        Height and width in pixels, after the EXIF orientation.

    Raises:
        MediaError: It is missing, no image, truncated, too large, of no size, or too narrow.
    """
    if (size := _ordinary_size(path, content, max_pixels)) is not None:
        return size
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with opened_image(file, max_pixels) as image:
        width, height = image.size
        if _orientation(image, file) in _SIDEWAYS:
            width, height = height, width
        _check_shape(image, file)
        with file.open() as opened:
            may_be_truncated = is_cut(opened)
        if may_be_truncated:
            image.load()
        return height, width


def load_image(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
    max_pixels: int | None = MAX_FILE_PIXELS,
) -> Image.Image:
    """The image as RGB, upright, transparency over white, 16 bits as 8; of an animation the first.

    Args:
        path: The image file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.
        max_pixels: Most pixels that the header may state; None for no limit.

    Raises:
        MediaError: As ``probe_image_size``, or the pixels are truncated or damaged.

    Reference:
        ``convert_to_rgb`` of transformers 5.23 after ``PIL.ImageOps.exif_transpose``, checked in
        tests/unit/data/test_images.py; every kind in tests/unit/data/test_pictures_of_docs.py.
    """
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with opened_image(file, max_pixels) as image:
        _check_shape(image, file)
        if image.mode.startswith("I"):
            return _from_sixteen_bits(image)
        _scale_clear_colour(image)
        return _over_white(ImageOps.exif_transpose(image))


def reads_as_plain(path: Path) -> bool:
    """Whether ``transformers.image_utils.load_image(path)`` gives the pixels of ``load_image``.

    Both are decoded and compared: not so where something is transparent, or a grey has 16 bits.

    Args:
        path: The image file.

    Raises:
        MediaError: See ``load_image``.
    """
    ours = load_image(path, max_pixels=None)
    try:
        with pillow_settings(MAX_FILE_PIXELS):
            theirs = load_image_of_transformers(str(path))
    except (*DAMAGE, Image.DecompressionBombError):
        return False
    return ours.size == theirs.size and ours.tobytes() == theirs.tobytes()


def _ordinary_size(
    path: Path, content: bytes | None, max_pixels: int | None
) -> tuple[int, int] | None:
    """The size from the first bytes; None where Pillow should look, and say what is wrong."""
    try:
        # A read or two, which a buffer would only slow down.
        with io.FileIO(path) if content is None else io.BytesIO(content) as opened:
            size = read_size(opened)
    except (OSError, ValueError):
        return None
    if size is None or max(size) > MAX_ASPECT_RATIO * min(size):
        return None
    is_large = max_pixels is not None and size[0] * size[1] > max_pixels
    return None if is_large else size


def _over_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _has_sixteen_bits(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in _SIXTEEN_BITS_AS_I
    )


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """A grey of 9 to 16 bits as RGB: the highest 8 bits of every number."""
    num_bits, is_inverted = 16, False
    if isinstance(image, TiffImageFile):
        # Pillow reads 12 bits into the lower end of 16, and leaves turned greys as they are.
        num_bits = int(image.tag_v2.get(ExifTags.Base.BitsPerSample, (16,))[0])
        is_inverted = image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO
    numbers = np.asarray(ImageOps.exif_transpose(image))
    grey = (numbers >> (num_bits - 8)).astype(np.uint8)
    if is_inverted:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[numbers == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _scale_clear_colour(image: Image.Image) -> None:
    """Bring a PNG's transparent colour to the 8 bits that its pixels will have.

    Pillow scales pixels of 2, 4 and 16 bits and leaves the colour as the file has it, so that no
    pixel is equal to it. Of 16 bits, all pixels with the same high bytes are transparent.
    """
    clear = image.info.get("transparency")
    if not isinstance(image, PngImageFile) or clear is None or not image.tile:
        return
    written = image.tile[0][3]
    if isinstance(clear, int) and written in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if written == "L;2" else 17)
    elif isinstance(clear, tuple) and written == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _check_shape(image: Image.Image, file: MediaFile) -> None:
    width, height = image.size
    if image.mode in ("I", "F") and not _has_sixteen_bits(image):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        what = (
            f"holds {kind} numbers (Pillow mode {image.mode}), whose black and white nobody says."
        )
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


def exif_orientation(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> int:
    """The EXIF orientation with which ``load_image`` turns an image: 1 to 8, 1 for none.

    Args:
        path: The image file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.

    Raises:
        MediaError: It is missing, or no image.
    """
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with opened_image(file, None) as image:
        found = _orientation(image, file)
    return found if 1 <= found <= _MAX_ORIENTATION else 1


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
