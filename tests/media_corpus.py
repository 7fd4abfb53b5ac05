"""Pictures of every kind that docs/pictures.md has, tiny videos, and ways to damage both.

``python tests/media_corpus.py FOLDER`` writes the pictures, for benchmarks/peers/pictures.py.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import ExifTags, Image

# Six flat squares of 28 pixels, three in a row: no resize to whole patches changes them.
SIDE = 28
COLOURS = ((200, 30, 40), (30, 160, 60), (20, 60, 220), (255, 255, 255), (0, 0, 0), (120, 90, 60))
GREYS = (0, 60, 120, 180, 240, 255)
ALPHAS = (255, 0, 128, 255, 0, 255)
# 16 bits: black, a quarter, a half, nearly white, white, and a number whose low byte is high.
DEEP = (0x0000, 0x4000, 0x8000, 0xF000, 0xFFFF, 0x12FF)

Maker = Callable[[], bytes]


def squares(values: np.ndarray) -> np.ndarray:
    """(2 * SIDE, 3 * SIDE, ...): six values as squares, row by row."""
    grid = np.asarray(values).reshape(2, 3, *np.asarray(values).shape[1:])
    return grid.repeat(SIDE, axis=0).repeat(SIDE, axis=1)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a picture as a file of a kind."""
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(size: tuple[int, int], bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG file of any bits and colour type; ``extra`` chunks stand before its pixels."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def _rows(values: np.ndarray) -> bytes:
    """Pixel rows of a PNG, none filtered."""
    return b"".join(b"\0" + row.tobytes() for row in values)


def rgb() -> Image.Image:
    """The six colours."""
    return Image.fromarray(squares(np.array(COLOURS, np.uint8)))


def grey() -> Image.Image:
    """The six greys."""
    return Image.fromarray(squares(np.array(GREYS, np.uint8)))


def rgba() -> Image.Image:
    """The six colours, some of them hidden or half transparent."""
    image = rgb()
    image.putalpha(Image.fromarray(squares(np.array(ALPHAS, np.uint8))))
    return image


def deep() -> np.ndarray:
    """(56, 84) uint16: the six numbers of 16 bits."""
    return squares(np.array(DEEP, np.uint16))


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def _palette() -> Image.Image:
    image = Image.fromarray(squares(np.arange(6, dtype=np.uint8)))
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([value for colour in COLOURS for value in colour])
    return image


def _palette_alpha() -> Image.Image:
    image = Image.merge("LA", (Image.fromarray(squares(np.arange(6, dtype=np.uint8))),
                               Image.fromarray(squares(np.array(ALPHAS, np.uint8)))))  # fmt: skip
    image = Image.frombytes("PA", image.size, image.tobytes())
    image.putpalette([value for colour in COLOURS for value in colour])
    return image


def _frames(*colours: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (3 * SIDE, 2 * SIDE), colour) for colour in colours]


def _animated(kind: str, **options: object) -> bytes:
    first, *others = _frames(COLOURS[0], COLOURS[1], COLOURS[2])
    return saved(first, kind, save_all=True, append_images=others, duration=100, **options)


def _tiff(bits: int, photometric: int, body: bytes) -> bytes:
    """A TIFF of one grey strip, written by hand: Pillow writes neither 12 bits nor white as 0."""
    entries = [
        (256, 3, 3 * SIDE),
        (257, 3, 2 * SIDE),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 2 * SIDE),
        (279, 4, len(body)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0\0\0\0"


def _twelve_bits() -> bytes:
    numbers = (deep() >> 4).astype(np.uint32)
    pairs = numbers.reshape(-1, 2)
    packed = (pairs[:, 0] << 12) | pairs[:, 1]
    return np.stack([packed >> 16, packed >> 8, packed], axis=1).astype(np.uint8).tobytes()


def _pgm() -> bytes:
    return b"P5 %d %d 65535\n" % (3 * SIDE, 2 * SIDE) + deep().astype(">u2").tobytes()


def _with_text_bomb(kind: bytes) -> bytes:
    packed = zlib.compress(b"\0" * 300_000_000, 9)
    body = b"Comment\0\0" + packed if kind == b"zTXt" else b"profile\0\0" + packed
    raw = saved(rgb(), "PNG")
    return raw[:33] + chunk(kind, body) + raw[33:]


def _bomb() -> bytes:
    """A whole PNG of 20,000 x 20,000 greys, all black."""
    side = 20_000
    packing = zlib.compressobj(9)
    rows = [packing.compress(bytes(side + 1)) for _ in range(side)]
    whole = png((side, side), 8, 0, b"")
    empty = chunk(b"IDAT", zlib.compress(b""))
    return whole.replace(empty, chunk(b"IDAT", b"".join(rows) + packing.flush()))


def _deep_png(colour: int, channels: np.ndarray, *extra: bytes) -> bytes:
    rows = _rows(channels.astype(">u2").reshape(2 * SIDE, -1))
    return png((3 * SIDE, 2 * SIDE), 16, colour, rows, *extra)


def _clear_deep_grey() -> bytes:
    return _deep_png(0, deep(), chunk(b"tRNS", struct.pack(">H", DEEP[1])))


def _four_bits() -> bytes:
    numbers = squares(np.array([0, 3, 6, 9, 12, 15], np.uint8))
    rows = _rows((numbers[:, 0::2] << 4) | numbers[:, 1::2])
    return png((3 * SIDE, 2 * SIDE), 4, 0, rows, chunk(b"tRNS", struct.pack(">H", 3)))


def _deep_colours() -> np.ndarray:
    colours = np.array(COLOURS, np.uint16) * 257
    colours[:, 1] ^= 0x55
    return squares(colours)


# The names stand in the first column of the table of docs/pictures.md.
PICTURES: dict[str, tuple[str, Maker]] = {
    "jpeg": ("jpg", lambda: saved(rgb(), "JPEG", quality=100, subsampling=0)),
    "exif-jpeg": ("jpg", lambda: saved(rgb(), "JPEG", quality=100, subsampling=0,
                                       exif=_turned(6))),
    "exif-png": ("png", lambda: saved(rgb(), "PNG", exif=_turned(3))),
    "grey": ("png", lambda: saved(grey(), "PNG")),
    "bilevel": ("png", lambda: saved(Image.fromarray(np.asarray(grey()) > 127), "PNG")),
    "palette": ("png", lambda: saved(_palette(), "PNG")),
    "palette-clear": ("png", lambda: saved(_palette(), "PNG", transparency=bytes(ALPHAS))),
    "rgba": ("png", lambda: saved(rgba(), "PNG")),
    "rgba-webp": ("webp", lambda: saved(rgba(), "WEBP", lossless=True, exact=True)),
    "grey-alpha": ("png", lambda: saved(
        Image.merge("LA", (grey(), Image.fromarray(squares(np.array(ALPHAS, np.uint8))))), "PNG")),
    "palette-alpha": ("tif", lambda: saved(_palette_alpha(), "TIFF")),
    "clear-colour": ("png", lambda: saved(rgb(), "PNG", transparency=COLOURS[1])),
    "clear-grey-4": ("png", _four_bits),
    "clear-colour-16": ("png", lambda: _deep_png(
        2, _deep_colours(), chunk(b"tRNS", struct.pack(">3H", *_deep_colours()[0, SIDE])))),
    "grey-16": ("png", lambda: saved(Image.fromarray(deep()), "PNG")),
    "clear-grey-16": ("png", _clear_deep_grey),
    "grey-16-tiff": ("tif", lambda: saved(
        Image.frombytes("I;16B", (3 * SIDE, 2 * SIDE), deep().astype(">u2").tobytes()), "TIFF")),
    "grey-16-pgm": ("pgm", _pgm),
    "grey-12": ("tif", lambda: _tiff(12, 1, _twelve_bits())),
    "white-is-zero-16": ("tif", lambda: _tiff(16, 0, (0xFFFF - deep()).astype("<u2").tobytes())),
    "rgb-16": ("png", lambda: _deep_png(2, _deep_colours())),
    "cmyk-jpeg": ("jpg", lambda: saved(rgb().convert("CMYK"), "JPEG", quality=100, subsampling=0)),
    "cmyk-tiff": ("tif", lambda: saved(rgb().convert("CMYK"), "TIFF")),
    "lab": ("tif", lambda: saved(Image.merge("LAB", rgb().split()), "TIFF")),
    "ycbcr": ("tif", lambda: saved(rgb().convert("YCbCr"), "TIFF")),
    "gif": ("gif", lambda: _animated("GIF")),
    "apng": ("png", lambda: _animated("PNG")),
    "webp": ("webp", lambda: _animated("WEBP", lossless=True)),
    "tiny": ("png", lambda: saved(rgb().resize((5, 3), Image.Resampling.NEAREST), "PNG")),
    "narrow": ("png", lambda: saved(Image.new("RGB", (402, 2), COLOURS[0]), "PNG")),
    "float": ("tif", lambda: saved(grey().convert("F"), "TIFF")),
    "grey-32": ("tif", lambda: saved(grey().convert("I"), "TIFF")),
    "cut-jpeg": ("jpg", lambda: saved(rgb(), "JPEG", quality=100)[:-40]),
    "cut-png": ("png", lambda: saved(rgb(), "PNG")[:-30]),
    "bomb": ("png", _bomb),
    "text-bomb": ("png", lambda: _with_text_bomb(b"zTXt")),
    "profile-bomb": ("png", lambda: _with_text_bomb(b"iCCP")),
    "postscript": ("eps", lambda: saved(rgb(), "EPS")),
}  # fmt: skip


def write_pictures(folder: Path) -> dict[str, Path]:
    """Write every kind of picture.

    Returns:
        Their files, by their names in the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, (suffix, make) in PICTURES.items():
        files[name] = folder / f"{name}.{suffix}"
        files[name].write_bytes(make())
    return files


def tiny_video(container: str = "mp4", num_frames: int = 8) -> bytes:
    """A video of 64 x 48 pixels at 8 frames a second."""
    held = io.BytesIO()
    with av.open(held, "w", format=container) as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(num_frames):
            frame = np.full((48, 64, 3), 20 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return held.getvalue()


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """The bytes cut, flipped, filled, doubled, swapped, or with absurd numbers in their header."""
    held = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not held:
            break
        at = rng.randrange(len(held))
        kind = rng.randrange(7)
        if kind == 0:
            del held[at:]
        elif kind == 1:
            held[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            # Sizes and offsets stand at the beginning.
            at = rng.randrange(min(len(held), 64))
            held[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\1"))
        elif kind == 3:
            held[at : at + 16] = rng.randbytes(16)
        elif kind == 4:
            held[at:at] = held[max(0, at - 40) : at]
        elif kind == 5:
            del held[at : at + rng.randrange(1, 40)]
        else:
            other = rng.randrange(len(held))
            held[at : at + 8], held[other : other + 8] = held[other : other + 8], held[at : at + 8]
    return bytes(held)


if __name__ == "__main__":
    write_pictures(Path(sys.argv[1]))
