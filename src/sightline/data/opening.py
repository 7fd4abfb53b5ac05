"""Opening a picture with Pillow: within a limit of pixels, silently, and every fault one error."""

from __future__ import annotations

import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from PIL import Image, UnidentifiedImageError

from sightline.data.formats.media import MediaFile
from sightline.errors import MediaError

# What Pillow raises for damaged files: its readers do little checking of their own.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


@contextmanager
def opened_image(file: MediaFile, max_pixels: int | None) -> Iterator[Image.Image]:
    """A picture whose header has been read; what goes wrong inside becomes a MediaError.

    Args:
        file: The file.
        max_pixels: Most pixels that the header may state; None for no limit.

    Raises:
        MediaError: It is missing, no picture, truncated or damaged, or has too many pixels.
    """
    code = "media.damaged"
    try:
        with pillow_settings(max_pixels), file.open() as opened, Image.open(opened) as image:
            num_pixels = image.width * image.height
            if max_pixels is not None and num_pixels > max_pixels:
                raise _too_large(file, num_pixels, max_pixels)
            _refuse_program(image, file)
            yield image
    except FileNotFoundError as error:
        what, cause, code = "does not exist.", error, "media.missing"
    except UnidentifiedImageError as error:
        what, cause = "is not an image that Pillow can read.", error
    except Image.DecompressionBombError as error:
        # Pillow's own limit is the same; it looks at pictures inside of pictures too.
        found = re.search(r"\((\d+) pixels\)", str(error))
        assert max_pixels is not None
        raise _too_large(file, int(found[1]) if found else None, max_pixels) from error
    except DAMAGE as error:
        refused = error.strerror if isinstance(error, OSError) else None
        told = str(error) or type(error).__name__
        what = f"cannot be read: {refused}." if refused else f"is truncated or damaged: {told}."
        cause = error
    else:
        return
    fix = "Mend or replace the file, or leave the sample out."
    raise file.error(what, fix=fix, code=code) from cause


@contextmanager
def pillow_settings(max_pixels: int | None) -> Iterator[None]:
    """Pillow without warnings, and with a limit of pixels of this call's own.

    Pillow keeps its limit, and Python its filters of warnings, once for the whole process. They
    are changed when the first thread comes in and put back when the last one goes.

    Args:
        max_pixels: Pillow raises beyond it; None for no limit.
    """
    _shared.enter(max_pixels)
    try:
        yield
    finally:
        _shared.leave()


class _Shared:
    """The settings of the process while at least one thread reads a picture."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before = ExitStack()

    def enter(self, max_pixels: int | None) -> None:
        with self._lock:
            # Pillow warns beyond its limit and raises beyond twice its limit.
            limit = None if max_pixels is None else (max_pixels + 1) // 2
            if self._num_inside == 0:
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = limit
                log = logging.getLogger("PIL")
                self._before.callback(log.setLevel, log.level)
                log.setLevel(logging.CRITICAL)
                self._before.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL\.")
            elif Image.MAX_IMAGE_PIXELS is not None:
                # The wider of two limits: each caller compares the size with its own as well.
                wider = None if limit is None else max(limit, Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = wider
            self._num_inside += 1

    def leave(self) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                self._before.close()


_shared = _Shared()


def _too_large(file: MediaFile, num_pixels: int | None, max_pixels: int) -> MediaError:
    return file.error(
        f"has {num_pixels or 'too many'} pixels; data.images.max_file_pixels is {max_pixels}.",
        fix="Make the picture smaller, or raise data.images.max_file_pixels if you trust it.",
        code="media.large",
    )


def _refuse_program(image: Image.Image, file: MediaFile) -> None:
    # To decode PostScript, Pillow starts Ghostscript and lets it run what the file says.
    if image.format == "EPS":
        what = "is a PostScript program and not a picture; it would have to be run to be seen."
        raise file.error(what, fix="Save it as PNG.")
