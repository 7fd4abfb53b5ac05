"""The table of docs/pictures.md: every kind is made, and Sightline's column is so."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL
import pytest
from PIL import Image

from sightline.data.images import load_image, probe_image_size, reads_as_plain
from sightline.errors import MediaError

TABLE = Path(__file__).resolve().parents[3] / "docs" / "pictures.md"
RED, GREEN, BLUE, WHITE, BLACK, BROWN = (
    (200, 30, 40),
    (30, 160, 60),
    (20, 60, 220),
    (255, 255, 255),
    (0, 0, 0),
    (120, 90, 60),
)
COLOURS = [RED, GREEN, BLUE, WHITE, BLACK, BROWN]
# Alpha is 255, 0, 128, 255, 0, 255.
OVER_WHITE = [RED, WHITE, (137, 157, 237), WHITE, WHITE, BROWN]
HIGH_BYTES = [0x00, 0x40, 0x80, 0xF0, 0xFF, 0x12]

# Six squares, row by row, as colours or greys; one number for all channels is a grey.
SEEN: dict[str, list] = {
    "jpeg": COLOURS,
    "exif-jpeg": [WHITE, RED, BLACK, GREEN, BROWN, BLUE],
    "exif-png": COLOURS[::-1],
    "grey": [0, 60, 120, 180, 240, 255],
    "bilevel": [0, 0, 0, 255, 255, 255],
    "palette": COLOURS,
    "palette-clear": OVER_WHITE,
    "rgba": OVER_WHITE,
    "rgba-webp": OVER_WHITE,
    "grey-alpha": [0, 255, 187, 180, 255, 255],
    "palette-alpha": OVER_WHITE,
    "clear-colour": [RED, WHITE, BLUE, WHITE, BLACK, BROWN],
    "clear-grey-4": [0, 255, 102, 153, 204, 255],
    "clear-colour-16": [RED, WHITE, BLUE, WHITE, BLACK, BROWN],
    "grey-16": HIGH_BYTES,
    "clear-grey-16": [0x00, 255, *HIGH_BYTES[2:]],
    "grey-16-tiff": HIGH_BYTES,
    "grey-16-pgm": HIGH_BYTES,
    "grey-12": HIGH_BYTES,
    "white-is-zero-16": HIGH_BYTES,
    "rgb-16": COLOURS,
    "cmyk-jpeg": COLOURS,
    "cmyk-tiff": COLOURS,
    "gif": [RED] * 6,
    "apng": [RED] * 6,
    "webp": [RED] * 6,
    "tiny": COLOURS,
}
# What Pillow's own conversion gives, whatever its release rounds to.
AS_PILLOW = {"lab", "ycbcr"}
REFUSED = {
    "narrow": ("media.shape", "402 x 2 pixels, an aspect ratio of 201"),
    "float": ("media.shape", "holds floating-point numbers"),
    "grey-32": ("media.shape", "holds 32-bit numbers"),
    "cut-jpeg": ("media.damaged", "is truncated"),
    "cut-png": ("media.damaged", "is truncated"),
    "bomb": ("media.large", "has 400000000 pixels; data.images.max_file_pixels is 178956970"),
    "text-bomb": ("media.damaged", "Decompressed data too large"),
    "profile-bomb": ("media.damaged", "Decompressed data too large"),
    "postscript": ("media.damaged", "is a PostScript program"),
}
LOSSY = {"jpeg", "exif-jpeg", "cmyk-jpeg"}


def kinds_of_the_table() -> dict[str, list[str]]:
    """The cells of every row, by the name of its kind."""
    rows = re.findall(r"^\| `([\w-]+)` \|(.+)\|$", TABLE.read_text("utf-8"), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


@pytest.fixture(scope="module")
def files(media_corpus: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of picture."""
    return media_corpus.write_pictures(tmp_path_factory.mktemp("pictures"))


def test_every_row_is_tested_and_every_kind_has_a_row(files: dict[str, Path]) -> None:
    told = kinds_of_the_table()
    assert list(told) == list(files)
    assert set(files) == {*SEEN, *AS_PILLOW, *REFUSED}
    refused = {name for name, cells in told.items() if cells[1].startswith("refused")}
    assert refused == set(REFUSED)


def _expected(name: str, height: int, width: int) -> np.ndarray:
    """(height, width, 3): the six squares."""
    values = [(value,) * 3 if isinstance(value, int) else value for value in SEEN[name]]
    rows, columns = (2, 3) if width > height else (3, 2)
    grid = np.array(values).reshape(rows, columns, 3)
    if name == "tiny":
        # Nearest neighbours of squares of 28 pixels, at 5 x 3.
        return grid[[0, 1, 1]][:, [0, 0, 1, 2, 2]]
    return grid.repeat(height // rows, axis=0).repeat(width // columns, axis=1)


@pytest.mark.parametrize("name", sorted(SEEN))
def test_what_the_model_sees(files: dict[str, Path], name: str) -> None:
    image = load_image(files[name])
    assert image.mode == "RGB"
    assert probe_image_size(files[name]) == (image.height, image.width)
    expected = _expected(name, image.height, image.width)
    assert np.abs(np.array(image).astype(int) - expected).max() <= (12 if name in LOSSY else 0)
    # The same where the row holds the bytes themselves.
    content = files[name].read_bytes()
    assert load_image(Path("row"), content=content).tobytes() == image.tobytes()


def _skip_where_pillow_refuses(name: str) -> None:
    if name == "ycbcr" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("Pillow before 13 takes its own YCbCr TIFF for a truncated one")


@pytest.mark.parametrize("name", sorted(AS_PILLOW))
def test_what_pillow_converts(files: dict[str, Path], name: str) -> None:
    _skip_where_pillow_refuses(name)
    with Image.open(files[name]) as opened:
        expected = opened.convert("RGB")
    assert load_image(files[name]).tobytes() == expected.tobytes()
    assert probe_image_size(files[name]) == (56, 84)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused(files: dict[str, Path], name: str) -> None:
    code, what = REFUSED[name]
    for read in (probe_image_size, load_image):
        with pytest.raises(MediaError) as caught:
            read(files[name])
        assert caught.value.code == code
        assert what in str(caught.value)
        assert caught.value.fix


@pytest.mark.parametrize("name", sorted({*SEEN, *AS_PILLOW}))
def test_transformers_shows_what_its_column_says(files: dict[str, Path], name: str) -> None:
    _skip_where_pillow_refuses(name)
    column = kinds_of_the_table()[name][2]
    assert reads_as_plain(files[name]) == (not column.startswith("**"))
