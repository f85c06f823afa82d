"""Trees with every kind of damage: one line that names the file; `verify`; odd files that are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_trees import H, W, ids, plain_camvid, save_image, save_label
from PIL import Image

from segkd.datasets import create
from segkd.datasets.files import FilePairs
from segkd.datasets.image_files import read_image
from segkd.datasets.label_files import read_label
from segkd.datasets.palettes import spread_palette
from segkd.datasets.verify import verify
from segkd.errors import UserError


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def three_channels(root: Path) -> None:
    save_image(root / "labels/train/train_a.png")


def sixteen_bits(root: Path) -> None:
    cv2.imwrite(str(root / "labels/train/train_a.png"), np.full((H, W), 40000, np.uint16))


def jpeg(root: Path) -> None:
    Image.fromarray(np.zeros((H, W), np.uint8)).save(root / "labels/train/train_a.png", format="JPEG")


def value_77(root: Path) -> None:
    label = ids(0, 0, 11)
    label[0, :5] = 77
    save_label(root / "labels/train/train_a.png", label)


def value_marker(root: Path) -> None:
    save_label(root / "labels/train/train_a.png", np.full((H, W), 254))


def other_size(root: Path) -> None:
    save_label(root / "labels/train/train_a.png", np.zeros((H, W - 1)))


def text_image(root: Path) -> None:
    (root / "images/train/train_a.jpg").write_text("not a picture")


def empty_label(root: Path) -> None:
    (root / "labels/train/train_a.png").write_bytes(b"")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (three_channels, r"labels/train/train_a\.png: label has 3 channels"),
    (sixteen_bits, r"train_a\.png: label value 40000 \(2240 pixels\) outside the classes"),
    (jpeg, r"train_a\.png: a label in JPEG cannot be read: JPEG changes values"),
    (value_77, r"train_a\.png: label value 77 \(5 pixels\) outside the classes; a label holds the class ids 0\.\.10"),
    (value_marker, r"train_a\.png: label value 254"),
    (other_size, r"train_a\.png: label is 55 x 40 .*train_a\.jpg is 56 x 40"),
    (text_image, r"train_a\.jpg: cannot be read as image"),
    (empty_label, r"train_a\.png: cannot be read as label"),
    (lambda root: cut(root / "images/train/train_a.jpg"), r"train_a\.jpg: cannot be read as image"),
    (lambda root: cut(root / "labels/train/train_a.png"), r"train_a\.png: cannot be read as label"),
    (lambda root: cut(root / "images/train/train_a.jpg", 0.995), r"train_a\.jpg: cannot be read as image"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    root = plain_camvid(tmp_path, splits=("train",))
    damage(root)
    data = create("camvid", root=root)
    with pytest.raises(UserError, match=message) as caught:
        data[0]
    assert "\n" not in str(caught.value)
    data[1]
    (problem,) = verify(data)
    assert problem == str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cut_files_are_found_before_decoding(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV before 5 fills what is missing of a JPEG with grey and returns it."""
    path = tmp_path / f"x{suffix}"
    save_image(path)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((H, W, 3), np.uint8))
    assert read_image(path).shape == (H, W, 3)
    cut(path)
    with pytest.raises(UserError, match="cut short"):
        read_image(path)


def test_thumbnail_and_bytes_after_the_end_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jpg"
    rgb = save_image(path)
    whole = path.read_bytes()
    comment = b"\xff\xfe" + (len(whole) + 2).to_bytes(2, "big") + whole  # a JPEG within the header, as a thumbnail is
    path.write_bytes(whole[:2] + comment + whole[2:] + bytes(9))
    np.testing.assert_allclose(read_image(path).astype(int), rgb, atol=3)
    path.write_bytes(whole[:2] + comment + whole[2:-200])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((H, W, 3), np.uint8))
    with pytest.raises(UserError, match="cut short"):
        read_image(path)


def test_missing_partner(tmp_path: Path) -> None:
    root = plain_camvid(tmp_path, splits=("train",))
    (root / "labels/train/train_b.png").unlink()
    (root / "images/train/train_c.jpg").unlink()
    with pytest.raises(UserError, match=r"train_b\.jpg: no label file 'train_b\.png' \(and 1 more"):
        create("camvid", root=root)
    data = create("camvid", root=root, check=False)
    assert [text.split("/")[-1] for text in verify(data)] == [
        "train_b.jpg: no label file 'train_b.png'",
        "train_c.png: no image file 'train_c.jpg'",
    ]


def test_file_gone_after_listing(tmp_path: Path) -> None:
    data = create("camvid", root=plain_camvid(tmp_path, splits=("train",)))
    (tmp_path / "images/train/train_a.jpg").unlink()
    with pytest.raises(UserError, match=r"train_a\.jpg: the image cannot be read \(No such file"):
        data[0]


def test_verify_lists_all_problems(tmp_path: Path) -> None:
    root = plain_camvid(tmp_path, names=("a", "b", "c", "d", "e"), splits=("train",))
    value_77(root)
    cut(root / "images/train/train_a.jpg")
    save_label(root / "labels/train/train_b.png", np.full((H + 1, W), 12))
    (root / "labels/train/train_c.png").unlink()
    cut(root / "labels/train/train_d.png")
    problems = verify(create("camvid", root=root, check=False))
    wanted = [
        "train_c",
        "train_a.jpg",
        "train_a.png",
        "train_b.png: label is",
        "train_b.png: label value 12",
        "train_d",
    ]
    assert len(problems) == len(wanted)
    assert all(part in text for part, text in zip(wanted, problems, strict=True))


def test_verify_of_a_data_set_without_files() -> None:
    class Odd(FilePairs):
        class_names = ("a", "b")
        palette = ((0, 0, 0), (1, 1, 1))

        def __init__(self) -> None:
            self.pairs, self.unpaired = [], []

    assert verify(Odd()) == ["no complete pair of image and label"]


# --- reading -------------------------------------------------------------------------------------------------------


def test_palette_png_gives_its_indices(tmp_path: Path) -> None:
    indices = ids(0, 0, 5)
    for bits in (4, 8):
        picture = Image.fromarray(indices, mode="P")
        picture.putpalette([v for colour in spread_palette(5) for v in colour])
        picture.save(tmp_path / "p.png", bits=bits)
        np.testing.assert_array_equal(read_label(tmp_path / "p.png"), indices)


def test_grey_and_alpha_images_become_rgb(tmp_path: Path) -> None:
    grey = ids(0, 0, 256 - 1)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    Image.fromarray(np.dstack([grey, grey // 2, grey // 3, grey])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), np.dstack([grey, grey // 2, grey // 3]))
