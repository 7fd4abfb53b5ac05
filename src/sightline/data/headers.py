"""The size of an ordinary JPEG or PNG from the first bytes of its file.

Pillow reads every header there is, in 30 us; these two kinds are nearly all pictures there are, and
take 5 us. Whatever is out of the ordinary is left to Pillow: the answer is None.

Reference: the size after ``PIL.ImageOps.exif_transpose``, checked in
tests/unit/data/test_headers.py.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

_NUM_BYTES_FIRST = 1024
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
# Baseline, extended and progressive; the others are rare, or need checks of their own.
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
# What says nothing of the size: quantisation and Huffman tables, the JFIF header.
_TABLES = frozenset((0xDB, 0xC4, 0xE0))
_STANDALONE = (0x01, *range(0xD0, 0xD8))
_METADATA_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"acTL")
# Colour types and the bits that each may have; 16 bits are left to Pillow.
_PNG_BITS = {0: (1, 2, 4, 8), 2: (8,), 3: (1, 2, 4, 8), 4: (8,), 6: (8,)}
# More than zlib needs to hold the MiB at which Pillow refuses a colour profile.
_NUM_BYTES_PROFILE = 1000
_NUM_BYTES_END = 32


def read_size(file: BinaryIO) -> tuple[int, int] | None:
    """Height and width of a picture as shown, EXIF orientation applied.

    Args:
        file: The file, at its beginning; where it stands afterwards is not said.

    Returns:
        None where Pillow should look: another kind of file, metadata that may turn the picture,
        more than 8 bits a channel, a header that is damaged, or a file without its end.
    """
    head = file.read(_NUM_BYTES_FIRST)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(head, file)
    if head.startswith(_PNG_SIGNATURE):
        return _png_size(head, file)
    return None


def is_cut(file: BinaryIO) -> bool:
    """Whether a JPEG, PNG, BMP or GIF lacks its end, so that its pixels may be truncated.

    Args:
        file: The file; where it stands before and afterwards does not matter.

    Returns:
        False for other kinds, of which nothing is known.
    """
    file.seek(0)
    head = file.read(_NUM_BYTES_FIRST)
    num_bytes = file.seek(0, io.SEEK_END)
    if head.startswith(b"\xff\xd8\xff"):
        return not _jpeg_ends(file)
    if head.startswith(_PNG_SIGNATURE):
        return b"IEND" not in _end(file)
    if head.startswith(b"GIF8"):
        return not _end(file).rstrip(b"\0").endswith(b";")
    if head.startswith(b"BM") and len(head) >= 6:
        return num_bytes < int.from_bytes(head[2:6], "little")
    return False


def _end(file: BinaryIO) -> bytes:
    """The last bytes of a file."""
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, num_bytes - _NUM_BYTES_END))
    return file.read(_NUM_BYTES_END)


def _jpeg_ends(file: BinaryIO) -> bool:
    # Some cameras fill up with zeros.
    return _end(file).rstrip(b"\0").endswith(b"\xff\xd9")


def _jpeg_size(head: bytes, file: BinaryIO) -> tuple[int, int] | None:
    position, base, orientation = 2, 0, None
    size: tuple[int, int] | None = None
    while True:
        # The marker, its length, and as much as a frame header has.
        if position - base + 12 > len(head):
            file.seek(position)
            head, base = file.read(_NUM_BYTES_FIRST), position
            if len(head) < 12:
                return None
        at = position - base
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = head[at + 2] << 8 | head[at + 3]
        if marker in _TABLES and length >= 2:
            position += 2 + length
            continue
        if marker in _START_OF_FRAME:
            bits, height, width, num_components = struct.unpack_from(">BHHB", head, at + 4)
            if bits != 8 or num_components not in (1, 3) or not height or not width or size:
                return None
            size = height, width
        if marker == 0xDA and size is not None:
            # Not earlier: EXIF may stand behind the frame header.
            if not _jpeg_ends(file):
                return None
            return (size[1], size[0]) if orientation in _SIDEWAYS else size
        if length < 2 or marker in _OTHER_FRAMES or marker in (0xD9, 0xDA):
            return None
        if marker == 0xE1:
            file.seek(position + 4)
            found = _orientation(file.read(length - 2))
            if found is None or orientation is not None:
                return None
            orientation = found
        position += 2 + length


def _orientation(segment: bytes) -> int | None:
    """The orientation of an EXIF segment, 1 where it says none; None where Pillow should look."""
    if not segment.startswith(b"Exif\x00\x00"):
        # XMP, which may hold an orientation of its own.
        return None
    tiff = segment[6:]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        [start] = struct.unpack_from(f"{order}I", tiff, 4)
        [num_entries] = struct.unpack_from(f"{order}H", tiff, start)
        found = None
        for index in range(num_entries):
            tag, kind, count, value = struct.unpack_from(
                f"{order}HHIH", tiff, start + 2 + 12 * index
            )
            if tag == _ORIENTATION_TAG:
                if kind != 3 or count != 1 or found is not None:
                    return None
                found = value
    except struct.error:
        return None
    return 1 if found is None else found


def _png_size(head: bytes, file: BinaryIO) -> tuple[int, int] | None:
    if len(head) < 33 or head[8:16] != b"\x00\x00\x00\rIHDR":
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", head, 16)
    [checksum] = struct.unpack_from(">I", head, 29)
    if bits not in _PNG_BITS.get(colour, ()) or zlib.crc32(head[12:29]) != checksum:
        return None
    if not width or not height:
        return None
    position, base, seen_pixels = 33, 0, False
    while True:
        if position - base + 8 > len(head):
            file.seek(position)
            head, base = file.read(32), position
            if len(head) < 8:
                return None
        num_bytes, kind = struct.unpack_from(">I4s", head, position - base)
        if kind in _METADATA_CHUNKS or (kind == b"iCCP" and num_bytes > _NUM_BYTES_PROFILE):
            return None
        if kind == b"IEND":
            return (height, width) if seen_pixels else None
        seen_pixels = seen_pixels or kind == b"IDAT"
        position += num_bytes + 12
