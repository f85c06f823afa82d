"""What a user may name to be segmented: files, folders, patterns, lists, arrays; names of the results; mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from predict_kit import picture, write_image

from segkd.errors import UserError
from segkd.workbench.sources import IMAGE, LIVE, PIPE, VIDEO, find_sources, is_one


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/a.png, photos/in/b.JPG, photos/in/deep/c.png, a video, and what is no image; the working folder above."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    for name in ("a.png", "in/b.JPG", "in/deep/c.png"):
        write_image(folder / name, picture(1))
    (folder / "drive.MP4").write_bytes(b"")
    for name in ("notes.md", ".hidden.png", ".cache/d.png"):
        write_image(folder / "e.png", picture(1)).rename(_made(folder / name))
    return Path("photos")


def _made(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return path


def names(*given: object, leave_out: Path | None = None) -> list[str]:
    return [source.name for source in find_sources(list(given), leave_out)]


def test_a_folder_is_taken_with_its_folders_by_their_paths(photos: Path) -> None:
    found = find_sources(photos)
    assert [source.name for source in found] == ["a", "drive", "in/b", "in/deep/c"]
    assert [source.kind for source in found] == [IMAGE, VIDEO, IMAGE, IMAGE]
    assert str(found[2]) == "photos/in/b.JPG"
    assert names(photos, leave_out=photos / "in" / "deep") == ["a", "drive", "in/b"]
    assert names(photos, "photos/in") == [
        "photos/a",
        "photos/drive",
        "photos/in/b",
        "photos/in/deep/c",
        "in/b",
        "in/deep/c",
    ]


def test_a_loop_of_links_ends_and_links_are_followed(photos: Path, tmp_path: Path) -> None:
    (photos / "in" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "elsewhere").mkdir()
    write_image(tmp_path / "elsewhere" / "f.png", picture(2))
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(photos) == ["a", "drive", "in/b", "in/deep/c", "linked/f"]


def test_files_and_patterns_are_called_by_what_tells_them_apart(photos: Path) -> None:
    assert names("photos/in/b.JPG") == ["b"]
    assert names("photos/a.png", "photos/in/b.JPG") == ["a", "in/b"]
    assert names("photos/**/*.png") == ["a", "in/deep/c"]
    assert names("photos/in/?.JPG") == ["b"]
    write_image(photos / "odd[1].png", picture(1))
    assert names("photos/odd[1].png") == ["odd[1]"], "a file that is there is no pattern"


def test_lists_name_files_from_here_or_from_their_own_folder(photos: Path) -> None:
    (photos / "all.txt").write_text("photos/a.png\n\n in/b.JPG \n")
    assert names("photos/all.txt") == ["a", "in/b"]
    (photos / "wrong.txt").write_text("a.png\nz.png\n")
    with pytest.raises(UserError, match=r"wrong.txt, line 2: no such file 'z.png', neither here nor in photos"):
        find_sources("photos/wrong.txt")


def test_arrays_cameras_and_standard_input(photos: Path) -> None:
    image = picture(3)
    found = find_sources([image, "camera:1", "-", image])
    assert [(source.name, source.kind) for source in found[1:3]] == [("camera1", LIVE), ("stdin", PIPE)]
    assert found[0].image() is image
    assert [str(source) for source in found] == ["image_000000", "camera:1", "standard input", "image_000003"]


def test_one_image_is_told_from_a_folder_that_holds_one(photos: Path) -> None:
    for given, expected in (
        (picture(1), True),
        ("photos/a.png", True),
        ("photos/in/deep", False),
        (["photos/a.png"], False),
    ):
        assert is_one(given, find_sources(given)) is expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("photo/a.png", "no such image file: photo/a.png"),
        ("photos/b.png", r"no such image file: photos/b.png; did you mean 'a.png'\?"),
        ("empty", "empty holds no image and no video"),
        ("photos/*.gif", r"no image matches 'photos/\*.gif'"),
        ("photos/*.md", "1 match, none of them an image or a video"),
        ("photos/nothing.txt", "lists no image"),
        ("photos/bytes.txt", "cannot read photos/bytes.txt as a list of images: it must be text"),
        ("camera1", "cameras are camera:0, camera:1"),
        (["photos/a.png", "photos/a.png"], "photos/a.png is given twice"),
        ("twins", "the results of twins/x.jpg and twins/x.png would both be called 'x'"),
        ([], "nothing to segment"),
        (np.zeros((4, 5), np.uint8), r"an image is \(H, W, 3\) uint8 RGB, got \(4, 5\) uint8"),
        (3, "an image is a file's name or an array"),
    ],
)  # fmt: skip
def test_mistakes_are_named(given: object, message: str, photos: Path) -> None:
    Path("empty").mkdir()
    (photos / "nothing.txt").write_text("\n")
    (photos / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    for name in ("twins/x.png", "twins/x.jpg"):
        write_image(Path(name), picture(1))
    with pytest.raises(UserError, match=message):
        find_sources(given)
