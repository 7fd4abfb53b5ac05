"""Sizes from the first bytes: Pillow's after EXIF, or None where Pillow should look."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from sightline.data.headers import is_cut, read_size

SIDEWAYS = (5, 6, 7, 8)


def picture(mode: str = "RGB", size: tuple[int, int] = (50, 30)) -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def size_of(content: bytes) -> tuple[int, int] | None:
    return read_size(io.BytesIO(content))


def reference(content: bytes) -> tuple[int, int]:
    """Height and width as Pillow shows the picture."""
    with Image.open(io.BytesIO(content)) as opened:
        width, height = ImageOps.exif_transpose(opened).size
    return height, width


def exif(orientation: int, order: str = "<", kind: int = 3, others: int = 0) -> bytes:
    """An EXIF block with an orientation behind some other entries."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = [struct.pack(f"{order}HHII", 0x0100 + i, 4, 1, 7) for i in range(others)]
    entries.append(struct.pack(f"{order}HHIHH", 0x0112, kind, 1, orientation, 0))
    count = struct.pack(f"{order}H", len(entries))
    return head + struct.pack(f"{order}I", 8) + count + b"".join(entries) + b"\0\0\0\0"


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """The JPEG with segments behind its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(png: bytes, *chunks: bytes, behind: bool = False) -> bytes:
    """The PNG with chunks before or behind its pixels."""
    at = png.index(b"IEND") - 4 if behind else 33
    return png[:at] + b"".join(chunks) + png[at:]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(50, 30), (1, 1), (7, 600), (65_500, 1)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 2}, {"dpi": (300, 300)}]
)
def test_jpeg(mode: str, size: tuple[int, int], options: dict) -> None:
    content = saved(picture(mode, size), "JPEG", **options)
    assert size_of(content) == (size[1], size[0]) == reference(content)


def test_jpeg_of_four_colours_is_left_to_pillow() -> None:
    assert size_of(saved(picture("CMYK"), "JPEG")) is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation_of_a_jpeg(orientation: int, order: str, others: int) -> None:
    block = exif(orientation, order, others=others)
    content = with_segments(saved(picture(), "JPEG"), segment(0xE1, b"Exif\0\0" + block))
    assert size_of(content) == reference(content)
    assert size_of(content) == ((50, 30) if orientation in SIDEWAYS else (30, 50))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow_writes_it(orientation: int) -> None:
    written = Image.Exif()
    written[ExifTags.Base.Orientation] = orientation
    written[ExifTags.Base.Make] = "a camera"
    content = saved(picture(), "JPEG", exif=written)
    assert size_of(content) == reference(content)


def test_orientation_behind_the_frame_header() -> None:
    jpeg = saved(picture(), "JPEG")
    scan = jpeg.index(b"\xff\xda")
    content = jpeg[:scan] + segment(0xE1, b"Exif\0\0" + exif(6)) + jpeg[scan:]
    assert reference(content) == (50, 30)
    assert size_of(content) == (50, 30)


def test_orientation_of_another_kind_is_left_to_pillow() -> None:
    jpeg = saved(picture(), "JPEG")
    assert size_of(with_segments(jpeg, segment(0xE1, b"Exif\0\0" + exif(6, kind=4)))) is None
    twice = segment(0xE1, b"Exif\0\0" + exif(6))
    assert size_of(with_segments(jpeg, twice, twice)) is None
    two = b"II*\0\x08\0\0\0\x02\0" + 2 * struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    assert size_of(with_segments(jpeg, segment(0xE1, b"Exif\0\0" + two))) is None


@pytest.mark.parametrize("marker", [0xE0, 0xE2, 0xED, 0xFE])
@pytest.mark.parametrize("length", [0, 900, 1000, 1010, 1023, 1024, 5000, 65_533])
def test_long_segments(marker: int, length: int) -> None:
    jpeg = saved(picture(), "JPEG")
    for times in (1, 3):
        content = with_segments(jpeg, *[segment(marker, b"x" * length)] * times)
        assert size_of(content) == (30, 50)


def test_exif_behind_long_segments_and_a_long_exif() -> None:
    jpeg = saved(picture(), "JPEG")
    turned = segment(0xE1, b"Exif\0\0" + exif(8) + b"\0" * 60_000)
    content = with_segments(jpeg, segment(0xE2, b"x" * 5000), turned)
    assert size_of(content) == (50, 30) == reference(content)


def test_xmp_is_left_to_pillow() -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    content = with_segments(saved(picture(), "JPEG"), segment(0xE1, xmp))
    # Whether XMP turns the picture depends on the release of Pillow.
    assert size_of(content) is None


def test_fill_bytes_before_a_marker() -> None:
    content = with_segments(saved(picture(), "JPEG"), b"\xff" * 5)
    assert size_of(content) == (30, 50) == reference(content)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(50, 30), (1, 1), (3, 700)])
def test_png(mode: str, size: tuple[int, int]) -> None:
    content = saved(picture(mode, size), "PNG")
    assert size_of(content) == (size[1], size[0]) == reference(content)


def test_png_of_sixteen_bits_is_left_to_pillow() -> None:
    deep = Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16))
    assert size_of(saved(deep, "PNG")) is None


def test_png_with_other_chunks() -> None:
    content = saved(picture(), "PNG", dpi=(300, 300), icc_profile=b"x" * 4000)
    assert size_of(content) == (30, 50)
    assert size_of(with_chunks(content, chunk(b"prVt", b"y" * 5000), behind=True)) == (30, 50)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("distance", [0, 5000])
def test_metadata_of_a_png_is_left_to_pillow(behind: bool, distance: int) -> None:
    png = saved(picture(), "PNG")
    far = chunk(b"prVt", b"y" * distance)
    for kind, body in (
        (b"eXIf", exif(6)),
        (b"tEXt", b"Comment\0hi"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"hi")),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
    ):
        assert size_of(with_chunks(png, far, chunk(kind, body), behind=behind)) is None
    turned = with_chunks(png, far, chunk(b"eXIf", exif(6)), behind=behind)
    assert reference(turned) == (50, 30)


def test_text_and_animation_as_pillow_writes_them() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a picture")
    assert size_of(saved(picture(), "PNG", pnginfo=info)) is None
    moving = saved(picture(), "PNG", save_all=True, append_images=[picture("L").convert("RGB")])
    assert b"acTL" in moving
    assert size_of(moving) is None


def test_a_damaged_header_of_a_png() -> None:
    png = bytearray(saved(picture(), "PNG"))
    png[18] ^= 1
    assert size_of(bytes(png)) is None


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "TIFF"])
def test_other_kinds_are_left_to_pillow(kind: str) -> None:
    assert size_of(saved(picture(), kind)) is None


@pytest.mark.parametrize(
    "content",
    [
        saved(picture(), "JPEG"),
        with_segments(saved(picture(), "JPEG"), segment(0xE1, b"Exif\0\0" + exif(6, ">"))),
        with_segments(saved(picture("L"), "JPEG"), segment(0xE2, b"x" * 1500)),
        saved(picture("RGBA"), "PNG"),
        with_chunks(saved(picture("P"), "PNG"), chunk(b"eXIf", exif(6)), behind=True),
    ],
    ids=["jpeg", "turned jpeg", "long jpeg", "png", "turned png"],
)
def test_a_file_cut_anywhere_is_left_to_pillow(content: bytes) -> None:
    # The checksum behind the name of a PNG's last chunk says nothing.
    end = content.index(b"IEND") + 4 if b"IEND" in content else len(content)
    assert {size_of(content[:length]) for length in range(end)} == {None}


def test_what_a_png_must_not_have_is_left_to_pillow() -> None:
    png = saved(picture(), "PNG")
    assert size_of(with_chunks(png, chunk(b"iCCP", b"profile\0\0" + b"x" * 900))) == (30, 50)
    assert size_of(with_chunks(png, chunk(b"iCCP", b"profile\0\0" + b"x" * 1000))) is None
    for bits, colour in ((16, 2), (4, 2), (3, 0), (8, 1), (8, 5), (16, 3)):
        header = struct.pack(">IIBBBBB", 50, 30, bits, colour, 0, 0, 0)
        assert size_of(png[:8] + chunk(b"IHDR", header) + png[33:]) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_whether_a_file_lacks_its_end(kind: str) -> None:
    content = saved(picture(), kind)
    assert not is_cut(io.BytesIO(content))
    for num_bytes in (1, 20, 300):
        # The last byte of a PNG is of a checksum that nothing depends on.
        expected = not (kind == "PNG" and num_bytes == 1)
        assert is_cut(io.BytesIO(content[:-num_bytes])) == expected
    assert not is_cut(io.BytesIO(b"something else"))
    assert not is_cut(io.BytesIO(b""))


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), start=st.sampled_from(["jpeg", "exif", "png", "none"]))
@example(body=b"\xff" * 200, start="jpeg")
@example(body=b"\xff\xc0\x00\x00" * 40, start="jpeg")
@example(body=b"\xff\xff\xff\xffIDAT" * 20, start="png")
def test_random_bytes_never_raise(body: bytes, start: str) -> None:
    begin = {
        "jpeg": b"\xff\xd8\xff",
        "exif": b"\xff\xd8\xff\xe1\x00\x80Exif\0\0II*\0",
        "png": saved(picture(size=(2, 3)), "PNG")[:33],
        "none": b"",
    }[start]
    size = size_of(begin + body)
    assert size is None or min(size) > 0


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 700), byte=st.integers(0, 255), turned=st.booleans())
def test_a_changed_byte_gives_pillows_size_or_nothing(at: int, byte: int, turned: bool) -> None:
    jpeg = saved(picture(), "JPEG")
    if turned:
        jpeg = with_segments(jpeg, segment(0xE1, b"Exif\0\0" + exif(6)))
    content = bytearray(jpeg)
    content[at % len(content)] = byte
    size = size_of(bytes(content))
    if size is None:
        return
    try:
        with Image.open(io.BytesIO(bytes(content))) as opened:
            width, height = opened.size
            sideways = opened.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    except OSError:
        # Damage that only Pillow sees; the pixels are refused when they are decoded.
        return
    assert size == ((width, height) if sideways else (height, width))
