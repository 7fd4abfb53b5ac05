"""Where media files are looked for, and what is said when they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.conversation import Origin
from sightline.data.formats import MediaFolder
from sightline.errors import MediaError

ORIGIN = Origin(file=Path("train.json"), line=2, index=0)


def refusal(folder: MediaFolder, written: str) -> str:
    with pytest.raises(MediaError) as caught:
        folder.resolve(written, origin=ORIGIN, field="image")
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"picture")
    return tmp_path


def test_relative_and_absolute_paths(root: Path) -> None:
    folder = MediaFolder(root=root)
    expected = root / "images/a.png"
    assert folder.resolve("images/a.png", origin=ORIGIN, field="image") == expected
    assert folder.resolve(str(expected), origin=ORIGIN, field="image") == expected


@pytest.mark.parametrize(
    ("prefix", "written"),
    [
        ("demo", "demo/images/a.png"),
        ("demo/", "demo/images/a.png"),
        ("/far/x", "/far/x/images/a.png"),
    ],
)
def test_a_prefix_is_taken_off(root: Path, prefix: str, written: str) -> None:
    folder = MediaFolder(root=root, strip_prefix=prefix)
    assert folder.resolve(written, origin=ORIGIN, field="image") == root / "images/a.png"


def test_a_prefix_is_whole_folder_names(root: Path) -> None:
    folder = MediaFolder(root=root, strip_prefix="dem")
    assert refusal(folder, "demo/images/a.png").startswith(
        f"train.json:2: image: {root}/demo/images/a.png does not exist."
    )


def test_a_superfluous_prefix_is_named(root: Path) -> None:
    assert refusal(MediaFolder(root=root), "demo/images/a.png") == (
        f"train.json:2: image: {root}/demo/images/a.png does not exist.\n"
        f"{root} has the file without 'demo' in front: set strip_prefix to 'demo' beside the data "
        "file's path."
    )


def test_an_absolute_path_of_another_machine(root: Path) -> None:
    assert refusal(MediaFolder(root=root), "/far/x/b.png") == (
        "train.json:2: image: /far/x/b.png does not exist.\n"
        "The row holds an absolute path: mend it, or set media_root and strip_prefix."
    )


def test_folder_empty_path_and_names_that_no_disk_has(root: Path) -> None:
    folder = MediaFolder(root=root)
    assert refusal(folder, "images") == (
        f"train.json:2: image: {root}/images is a folder, not a file.\n"
        "Name the media file. The pictures of a video are listed one by one."
    )
    assert refusal(folder, " ") == "train.json:2: image: the path is empty.\nName the media file."
    assert "does not exist" in refusal(folder, "a" * 5000)
    assert "does not exist" in refusal(folder, "a\0b")
