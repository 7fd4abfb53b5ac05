"""Media inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

from sightline.report.pictures import Picture, Unshown, load_picture, load_strip


def _opened(picture: Picture | Unshown) -> Image.Image:
    assert isinstance(picture, Picture)
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))


def _write_video(path: Path, num_frames: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height = 64, 48
        for index in range(num_frames):
            pixels = np.full((48, 64, 3), index * 20, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (1280, 320), "red").save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png")
    assert isinstance(picture, Picture)
    assert (picture.width, picture.height, picture.scale) == (640, 160, 0.5)
    assert picture.caption == "a.png, 1280 × 320 pixels"
    assert _opened(picture).size == (640, 160)


def test_a_small_picture_keeps_its_size(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    assert _opened(load_picture(tmp_path / "a.png")).size == (20, 10)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.jpg", exif=exif)
    assert _opened(load_picture(tmp_path / "a.jpg")).size == (10, 20)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert _opened(load_picture(tmp_path / "a.png")).getpixel((4, 4)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 128 * 256, dtype=np.uint16)).save(tmp_path / "a.png")
    assert _opened(load_picture(tmp_path / "a.png")).getpixel((4, 4)) == (128, 128, 128)


def test_a_missing_and_a_broken_picture_are_said(tmp_path: Path) -> None:
    missing = load_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    broken = load_picture(tmp_path / "b.png")
    assert isinstance(missing, Unshown)
    assert missing.reason == "The file is no longer there."
    assert isinstance(broken, Unshown)
    assert broken.reason.startswith("The file cannot be read:")


def test_a_video_is_four_frames(tmp_path: Path) -> None:
    strip = load_strip(_write_video(tmp_path / "a.mp4", 8))
    assert [item.caption for item in strip] == [
        "a.mp4, 0.0 s",
        "a.mp4, 0.5 s",
        "a.mp4, 1.0 s",
        "a.mp4, 1.5 s",
    ]
    shades = [_opened(item).convert("L").getpixel((30, 20)) for item in strip]
    assert np.allclose(np.array(shades, dtype=float), [0, 40, 80, 120], atol=6)


def test_a_video_of_one_frame_is_one_picture(tmp_path: Path) -> None:
    assert len(load_strip(_write_video(tmp_path / "a.mp4", 1))) == 1


def test_a_missing_and_a_broken_video_are_said(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"no video")
    reasons = [load_strip(tmp_path / name)[0] for name in ("a.mp4", "b.mp4")]
    assert all(isinstance(item, Unshown) for item in reasons)
