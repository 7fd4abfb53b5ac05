"""Images: size from the header, pixels upright and over white, and every fault."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image as reference_load_image

from sightline.data.conversation import Origin
from sightline.data.images import load_image, probe_image_size, reads_as_plain
from sightline.data.opening import DAMAGE, pillow_settings
from sightline.errors import MediaError

FIX = "Mend or replace the file, or leave the sample out."


def picture(width: int = 5, height: int = 3) -> Image.Image:
    values = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    return Image.fromarray(values * 4)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def with_late_chunk(png: bytes, exif: bytes) -> bytes:
    """The PNG file with an eXIf chunk behind its pixels."""
    end = png.index(b"IEND") - 4
    body = b"eXIf" + exif.removeprefix(b"Exif\x00\x00")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:end] + chunk + png[end:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (3, 5)), (3, (3, 5)), (5, (5, 3)), (6, (5, 3)), (8, (5, 3))]
)
def test_size_and_pixels_follow_the_exif_orientation(
    tmp_path: Path, suffix: str, orientation: int, size: tuple[int, int]
) -> None:
    path = tmp_path / f"turned{suffix}"
    picture().save(path, exif=exif_of(orientation))

    assert probe_image_size(path) == size
    loaded = load_image(path)
    assert (loaded.height, loaded.width) == size
    assert np.array_equal(np.array(loaded), np.array(reference_load_image(str(path))))


def test_orientation_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    picture().save(path)
    path.write_bytes(with_late_chunk(path.read_bytes(), exif_of(6).tobytes()))

    assert reference_load_image(str(path)).size == (3, 5)
    assert probe_image_size(path) == (5, 3)
    assert load_image(path).size == (3, 5)


def test_probing_decodes_no_pixel(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    info = PngInfo()
    info.add_text("Comment", "left to Pillow")
    Image.fromarray(noise).save(path, pnginfo=info)
    whole = bytearray(path.read_bytes())
    whole[2000:2600] = b"\0" * 600
    path.write_bytes(whole)

    assert probe_image_size(path) == (64, 48)
    with pytest.raises(MediaError, match="is truncated or damaged"):
        load_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_a_file_that_was_cut_is_found_without_its_pixels_being_asked_for(
    tmp_path: Path, kind: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    path = tmp_path / "noise"
    Image.fromarray(noise).save(path, kind)
    assert probe_image_size(path) == (64, 48)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MediaError, match="is truncated or damaged") as caught:
        probe_image_size(path)
    assert caught.value.code == "media.damaged"


@pytest.mark.parametrize("behind", [b"\0" * 20, b"made by a camera"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_bytes_behind_the_end_do_no_harm(tmp_path: Path, kind: str, behind: bytes) -> None:
    path = tmp_path / "more"
    picture(64, 48).save(path, kind)
    path.write_bytes(path.read_bytes() + behind)
    assert probe_image_size(path) == (48, 64)
    assert load_image(path).size == (64, 48)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    image = Image.new("RGBA", (3, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image.save(path)

    assert np.array(load_image(path)).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pixels_equal_the_image_processor_of_transformers(tmp_path: Path, mode: str) -> None:
    if "A" in mode and "white" not in (convert_to_rgb.__doc__ or ""):
        pytest.skip("this transformers drops the alpha channel")
    path = tmp_path / ("plain.jpg" if mode == "CMYK" else "plain.png")
    image = picture()
    if "A" in mode:
        image.putalpha(Image.fromarray(np.arange(15, dtype=np.uint8).reshape(3, 5) * 17))
    image.convert(mode).save(path)

    with Image.open(path) as opened:
        expected = np.array(convert_to_rgb(ImageOps.exif_transpose(opened)))
    loaded = load_image(path)
    assert loaded.mode == "RGB"
    assert np.array_equal(np.array(loaded), expected)
    if "A" not in mode:
        assert np.array_equal(np.array(loaded), np.array(reference_load_image(str(path))))


def test_a_palette_with_a_clear_colour_is_laid_over_white(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=1)

    assert np.array(load_image(path)).tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    with pytest.raises(MediaError) as caught:
        probe_image_size(path)
    assert str(caught.value) == f"{path} does not exist.\n{FIX}"


def test_a_fault_names_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    origin = Origin(file=Path("train.jsonl"), line=7, index=6)
    for read in (probe_image_size, load_image):
        with pytest.raises(MediaError) as caught:
            read(path, origin=origin, field="images[0]")
        assert str(caught.value) == (
            f"train.jsonl:7: images[0]: {path} is not an image that Pillow can read.\n{FIX}"
        )


@pytest.mark.parametrize("fault", DAMAGE)
def test_whatever_pillow_raises_is_one_error(tmp_path: Path, monkeypatch, fault: type) -> None:
    path = tmp_path / "a.gif"
    picture().save(path)

    def refuse(*_: object) -> None:
        raise fault("the reason")

    monkeypatch.setattr(Image, "open", refuse)
    for read in (probe_image_size, load_image):
        with pytest.raises(MediaError, match=r"a\.gif is truncated or damaged: .?the reason"):
            read(path)


def test_a_fault_that_pillow_has_no_error_of_its_own_for(tmp_path: Path) -> None:
    path = tmp_path / "a.dds"
    picture(8, 8).save(path)
    content = bytearray(path.read_bytes())
    content[80:84] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match="Unknown pixel format flags"):
        # A subclass of it, which no reader of files expects.
        Image.open(path)
    with pytest.raises(MediaError, match="Unknown pixel format flags 0"):
        probe_image_size(path)


def test_what_pillow_logs_is_not_passed_on(tmp_path: Path, caplog) -> None:
    path = tmp_path / "a.tif"
    # Ten numbers a pixel.
    picture().save(path)
    content = path.read_bytes()
    entry = struct.pack("<HHI", 277, 3, 1)
    at = content.index(entry) + len(entry)
    path.write_bytes(content[:at] + struct.pack("<H", 10) + content[at + 2 :])
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(path)
    assert caplog.records
    caplog.clear()
    with pytest.raises(MediaError, match="is not an image that Pillow can read"):
        probe_image_size(path)
    assert caplog.records == []


def test_truncated_file(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    picture(64, 64).save(whole)
    cut.write_bytes(whole.read_bytes()[:700])
    with pytest.raises(MediaError, match=r"cut\.jpg is truncated or damaged: image file is trunc"):
        load_image(cut)


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot be read: Is a directory\."):
        load_image(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tif", ".bmp"])
def test_more_pixels_than_the_limit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    picture(21, 19).save(path)
    for read in (probe_image_size, load_image):
        assert read(path, max_pixels=399)
        assert read(path, max_pixels=None)
        with pytest.raises(MediaError) as caught:
            read(path, max_pixels=398)
        assert caught.value.code == "media.large"
        assert str(caught.value) == (
            f"{path} has 399 pixels; data.images.max_file_pixels is 398.\n"
            "Make the picture smaller, or raise data.images.max_file_pixels if you trust it."
        )


def test_an_odd_limit(tmp_path: Path) -> None:
    """Pillow's own limit is even."""
    path = tmp_path / "bomb.gif"
    picture(20, 20).save(path)
    with pytest.raises(MediaError, match=r"has 400 pixels; data\.images\.max_file_pixels is 399"):
        load_image(path, max_pixels=399)


def test_two_limits_at_once_are_each_kept(tmp_path: Path) -> None:
    path = tmp_path / "large.gif"
    picture(20, 20).save(path)
    with pillow_settings(100):
        assert load_image(path, max_pixels=400).size == (20, 20)
        assert load_image(path, max_pixels=None).size == (20, 20)
        with pytest.raises(MediaError, match="has 400 pixels"):
            load_image(path, max_pixels=200)


def test_the_limit_is_the_one_that_is_given_and_pillow_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.gif"
    picture(20, 20).save(path)
    for own in (100, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert probe_image_size(path) == (20, 20)
            assert load_image(path, max_pixels=400).size == (20, 20)
        assert own == Image.MAX_IMAGE_PIXELS


def test_warnings_of_pillow_are_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "moving.png"
    picture().save(path)
    whole = path.read_bytes()
    body = b"acTL" + bytes(8)
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        assert probe_image_size(path) == (3, 5)
        assert load_image(path).size == (5, 3)
        assert warnings.filters == before


def test_threads_leave_the_settings_of_the_process_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    picture(300, 200).save(path)
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda _: load_image(path, max_pixels=60_000).size, range(200)))
    assert set(sizes) == {(300, 200)}
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters
    assert logging.getLogger("PIL").level == logging.NOTSET


def test_aspect_ratio(tmp_path: Path) -> None:
    fits, narrow = tmp_path / "fits.png", tmp_path / "narrow.png"
    Image.new("RGB", (400, 2)).save(fits)
    Image.new("RGB", (402, 2)).save(narrow)
    assert probe_image_size(fits) == (2, 400)
    with pytest.raises(MediaError) as caught:
        probe_image_size(narrow)
    assert str(caught.value) == (
        f"{narrow} is 402 x 2 pixels, an aspect ratio of 201; the processors take up to 200.\n"
        "Cut the picture, or leave the sample out."
    )


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bits_keep_their_high_byte(tmp_path: Path, mode: str) -> None:
    numbers = np.array([[0, 255, 256, 0x12FF], [0x7FFF, 0x8000, 0xFEFF, 0xFFFF]], np.uint16)
    path = tmp_path / "deep.tif"
    written = numbers.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    image = Image.frombytes(mode, (4, 2), written)
    if mode == "I;16L" and mode not in TiffImagePlugin.SAVE_INFO:
        pytest.skip("this Pillow writes no file of I;16L")
    image.save(path, exif=exif_of(3))

    assert probe_image_size(path) == (2, 4)
    loaded = np.array(load_image(path))
    assert (loaded == loaded[..., :1]).all()
    assert loaded[::-1, ::-1, 0].tolist() == [[0, 0, 1, 0x12], [0x7F, 0x80, 0xFE, 0xFF]]


def test_sixteen_bits_where_pillow_says_32(tmp_path: Path, monkeypatch) -> None:
    """Older releases of Pillow open a grey PNG of 16 bits in mode I."""
    path = tmp_path / "deep.png"
    numbers = np.array([[0, 255, 256, 0xFFFF]], np.uint16)
    Image.fromarray(numbers).save(path)
    monkeypatch.setitem(PngImagePlugin._MODES, (16, 0), ("I", "I;16B"))
    with Image.open(path) as opened:
        assert opened.mode == "I"
    assert np.array(load_image(path))[..., 0].tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize(("mode", "kind"), [("I", "32-bit"), ("F", "floating-point")])
def test_numbers_without_a_white_are_refused(tmp_path: Path, mode: str, kind: str) -> None:
    path = tmp_path / "deep.tif"
    Image.new(mode, (4, 4), 7).save(path)
    for read in (probe_image_size, load_image):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert caught.value.code == "media.shape"
        assert str(caught.value) == (
            f"{path} holds {kind} numbers (Pillow mode {mode}), whose black and white nobody "
            "says.\nConvert it to 8 bits a channel."
        )


def test_a_program_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "harmless.png"
    picture(40, 30).save(path, "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", pytest.fail)
    for read in (probe_image_size, load_image):
        with pytest.raises(MediaError, match="is a PostScript program and not a picture"):
            read(path)


def test_which_pictures_transformers_reads_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    opaque = picture()
    opaque.putalpha(255)
    for image in (picture(), picture().convert("L"), opaque):
        image.save(path, exif=exif_of(6))
        assert reads_as_plain(path)
    clear = picture()
    clear.putalpha(254)
    deep = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    for image in (clear, deep):
        image.save(path)
        assert not reads_as_plain(path)
