"""Images: size from the header, pixels upright and over white, and every fault."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image as reference_load_image

from sightline.data.conversation import Origin
from sightline.data.images import load_image, probe_image_size
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
    whole, cut = tmp_path / "whole.png", tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    cut.write_bytes(whole.read_bytes()[:2000])

    assert probe_image_size(cut) == (64, 48)


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


def test_truncated_file(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    picture(64, 64).save(whole)
    cut.write_bytes(whole.read_bytes()[:700])
    with pytest.raises(MediaError, match=r"cut\.jpg is truncated or damaged: image file is trunc"):
        load_image(cut)


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot be read: Is a directory\."):
        load_image(tmp_path)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    picture(20, 20).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(MediaError, match=r"is too large: Image size \(400 pixels\) exceeds limit"):
        probe_image_size(path)


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


def test_sixteen_bits_are_refused_instead_of_clipped(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(path)
    with pytest.raises(MediaError) as caught:
        probe_image_size(path)
    assert str(caught.value) == (
        f"{path} has more than 8 bits a channel (Pillow mode I;16) and would be clipped.\n"
        "Convert it to 8 bits a channel."
    )
