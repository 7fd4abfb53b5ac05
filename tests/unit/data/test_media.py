"""Where media files are looked for, and what is said when they are not there."""

from __future__ import annotations

import os
import urllib.request
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
    told = (
        f"train.json:2: image: '/far/x/b.png' is not in {root}, the folder of this source's media."
        "\nSet media_root to a folder above it, or allow_outside: true, beside the data file's "
        "path."
    )
    assert refusal(MediaFolder(root=root), "/far/x/b.png") == told
    assert refusal(MediaFolder(root=root, allow_outside=True), "/far/x/b.png") == (
        "train.json:2: image: /far/x/b.png does not exist.\n"
        "The row holds an absolute path: mend it, or set media_root and strip_prefix."
    )
    # Where the file is there without its leading folders, that is the better advice.
    assert "set strip_prefix to '/far/x' beside" in refusal(
        MediaFolder(root=root), "/far/x/images/a.png"
    )


@pytest.fixture
def secret(root: Path) -> Path:
    """A file beside the folder, whose name begins like it."""
    path = root.parent / f"{root.name}2" / "secret.png"
    path.parent.mkdir()
    path.write_bytes(b"picture")
    return path


OUTSIDE = [
    "{secret}",
    "//{secret}",
    "../{root.name}2/secret.png",
    "images/../../{root.name}2/secret.png",
    "images/nowhere/../../../{root.name}2/secret.png",
    "./../{root.name}2/./secret.png",
    "{root}/../{root.name}2/secret.png",
    "file://{secret}",
    "file://localhost{secret}",
    "file:" + "///{root}/%2e%2e/{root.name}2/secret.png",
    "file://../{root.name}2/secret.png",
]


@pytest.mark.parametrize("written", OUTSIDE)
def test_a_path_that_leaves_the_folder_is_refused(root: Path, secret: Path, written: str) -> None:
    written = written.format(root=root, secret=secret)
    for folder in (MediaFolder(root=root), MediaFolder(root=root / "images" / "..")):
        with pytest.raises(MediaError) as caught:
            folder.resolve(written, origin=ORIGIN, field="image")
        assert caught.value.code == "media.outside"
        assert f"is not in {root}, the folder of this source's media." in caught.value.what
        assert "media_root" in str(caught.value)
        assert "allow_outside: true" in str(caught.value)


@pytest.mark.parametrize("written", OUTSIDE)
def test_it_is_read_where_that_is_allowed(root: Path, secret: Path, written: str) -> None:
    folder = MediaFolder(root=root, allow_outside=True)
    path = folder.resolve(written.format(root=root, secret=secret), origin=ORIGIN, field="image")
    assert path.samefile(secret)


@pytest.mark.parametrize(
    "written",
    ["images/../images/a.png", "./images/a.png", "{root}/images/../images/a.png",
     "file://{root}/images/a.png", "file://images/a.png", "nowhere/../images/a.png"],
)  # fmt: skip
def test_what_only_looks_as_if_it_left_is_read(root: Path, written: str) -> None:
    beside = root.parent / f"{root.name}-beside"
    beside.mkdir()
    for folder in (root, beside / ".." / root.name):
        for prefix in (None, "demo"):
            media = MediaFolder(root=folder, strip_prefix=prefix)
            path = media.resolve(written.format(root=root), origin=ORIGIN, field="image")
            assert path.samefile(root / "images/a.png")


def test_names_with_two_dots_and_links_inside(root: Path, secret: Path) -> None:
    (root / "images/a..b.png").write_bytes(b"picture")
    (root / "linked").symlink_to(secret.parent)
    folder = MediaFolder(root=root)
    for written in ("images/a..b.png", "linked/secret.png"):
        path = folder.resolve(written, origin=ORIGIN, field="image")
        assert path == root / written
    # What is looked at is what is opened: the way back is not taken through the link.
    assert "secret2" not in refusal(folder, "linked/../images/b.png")
    assert folder.resolve("linked/../images/a.png", origin=ORIGIN, field="image").samefile(
        root / "images/a.png"
    )


def test_a_prefix_does_not_lead_out(root: Path, secret: Path) -> None:
    folder = MediaFolder(root=root, strip_prefix="demo")
    with pytest.raises(MediaError) as caught:
        folder.resolve(f"demo/../{root.name}2/secret.png", origin=ORIGIN, field="image")
    assert caught.value.code == "media.outside"


def test_a_folder_of_a_library_is_not_outside(root: Path, secret: Path) -> None:
    folder = MediaFolder(root=root, caches=(secret.parent,))
    assert folder.resolve(str(secret), origin=ORIGIN, field="image") == secret


def test_an_ordinary_path_is_looked_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or real(path))
    MediaFolder(root=root).resolve("images/a.png", origin=ORIGIN, field="image")
    assert asked == [f"{root}/images/a.png"]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("http://example.org/a.png", "media.address"),
        ("HTTPS://example.org/a.png", "media.address"),
        ("ftp://example.org/a.png", "media.address"),
        ("s3://bucket/a.png", "media.address"),
        ("data:image/png;charset=utf-8,abc", "media.address"),
    ],
)
def test_nothing_is_fetched_unless_it_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: str, code: str
) -> None:
    monkeypatch.setattr(urllib.request, "build_opener", pytest.fail)
    with pytest.raises(MediaError) as caught:
        MediaFolder(root=root).resolve(written, origin=ORIGIN, field="image")
    assert caught.value.code == code


def test_folder_empty_path_and_names_that_no_disk_has(root: Path) -> None:
    folder = MediaFolder(root=root)
    assert refusal(folder, "images") == (
        f"train.json:2: image: {root}/images is a folder, not a file.\n"
        "Name the media file. The pictures of a video are listed one by one."
    )
    assert refusal(folder, " ") == "train.json:2: image: the path is empty.\nName the media file."
    assert "does not exist" in refusal(folder, "a" * 5000)
    assert "does not exist" in refusal(folder, "a\0b")
