"""One's own data with everything wrong that a disk may hold: it works, or ends in one line that names the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import own_trees
import pytest
from dataset_trees import ids, save_image, save_label
from own_trees import H, W
from PIL import Image

from segkd.datasets import create
from segkd.datasets.verify import verify
from segkd.errors import UserError

SECOND = f"{own_trees.name(1)}.png"


def read_all(arguments: dict[str, object]) -> int:
    data = create("folder", **arguments)
    for k in range(len(data)):
        data[k]
    return len(data)


def label(root: Path) -> Path:
    return root / "labels" / SECOND


def truncated(root: Path) -> None:
    label(root).write_bytes(label(root).read_bytes()[:60])


def folder_in_place(root: Path) -> None:
    label(root).unlink()
    label(root).mkdir()


def link_to_itself(root: Path) -> None:
    label(root).unlink()
    os.symlink(label(root), label(root))


def dangling_link(root: Path) -> None:
    label(root).unlink()
    os.symlink(root / "gone.png", label(root))


def line_break(root: Path) -> None:
    (root / "images" / SECOND).rename(root / "images/a\nb.png")


def of_another_split(root: Path) -> None:
    for file in list((root / "images").iterdir()):
        file.rename(root / "images" / f"train_{file.name}")
    for file in list((root / "labels").iterdir()):
        file.rename(root / "labels" / f"val_{file.name}")


def of_another_folder(root: Path) -> None:
    for kind, split in (("images", "monday"), ("labels", "tuesday")):
        (root / kind / split).mkdir()
        for file in (root / kind).glob("*.png"):
            file.rename(root / kind / split / file.name)


def of_another_sequence(root: Path) -> None:
    for k, file in enumerate(sorted((root / "labels").iterdir())):
        file.rename(root / "labels" / f"clip7_{k:04d}.png")


def jpegs(root: Path) -> None:
    for file in list((root / "labels").iterdir()):
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (truncated, rf"labels/{SECOND}: cannot be read as label file; it is damaged or cut short"),
    (lambda root: (root / "images" / SECOND).write_bytes(b""), rf"images/{SECOND}: cannot be read as image file"),
    (folder_in_place, rf"images/{SECOND}: no label file '{SECOND}'; check=False goes on without"),
    (link_to_itself, rf"labels/{SECOND}: the label cannot be read \(Too many levels of symbolic links\)"),
    (dangling_link, rf"labels/{SECOND}: the label cannot be read \(No such file or directory\)"),
    (lambda root: os.symlink(root / "images", root / "images/again"), "again is a link to a folder above itself"),
    (line_break, r"images/a\\nb\.png': there is a line break in the name; rename the file"),
    (lambda root: (root / "images" / SECOND).with_suffix(".jpg").touch(), r"two files for one name: .*keep one"),
    (lambda root: save_label(label(root), np.full((H, W), 9)), rf"{SECOND}: label value 9 \(6144 pixels\) outside"),
    (of_another_split, r"none of the 4 images .*called like 'train_clip0_0000', labels like 'val_clip0_0000'"),
    (of_another_folder, r"none of the 4 images .*called like 'monday/.*labels like 'tuesday/"),
    (of_another_sequence, r"none of the 4 images .*called like 'clip0_0000', labels like 'clip7_0000'"),
    (jpegs, r"0000\.jpg: a label in JPG cannot be read: JPEG changes values, most along borders"),
    (lambda root: [file.unlink() for file in (root / "labels").iterdir()], "labels holds no label: no PNG mask"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    arguments = own_trees.write(tmp_path / "data", "ids", 4)
    damage(tmp_path / "data")
    with pytest.raises(UserError, match=message) as caught:
        read_all(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_file_that_may_not_be_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a test may run as root, who may read all, the system's answer is made up."""
    arguments = own_trees.write(tmp_path, "ids", 4)
    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == tmp_path / kind / SECOND:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(UserError, match=rf"{kind}/{SECOND}: the {kind[:-1]} cannot be read \(Permission denied\)"):
        read_all(arguments)
    assert len(verify(create("folder", **arguments, check=False))) == 1


def test_odd_files_that_are_right(tmp_path: Path) -> None:
    arguments = own_trees.write(tmp_path, "ids", 4)
    save_image(tmp_path / "images" / SECOND, size=(1, 1))
    save_label(label(tmp_path), np.array([[2]]))
    for file in (tmp_path / "images" / ".hidden.png", tmp_path / "labels" / "notes.md"):
        file.touch()
    os.symlink(tmp_path / "images", tmp_path / "linked")
    assert read_all(arguments) == 4
    assert create("folder", **arguments)[1].image.shape == (1, 1, 3)
    arguments |= {"images": tmp_path / "linked", "labels": tmp_path / "labels", "class_names": own_trees.NAMES}
    assert read_all({k: v for k, v in arguments.items() if k != "root"}) == 4


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_ids(tmp_path: Path, bits: int) -> None:
    stored = ids(0, 0, 2**bits)
    picture = Image.fromarray(stored.astype(bool)) if bits == 1 else Image.fromarray(stored)
    save_image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    picture.save(tmp_path / "labels/a.png", **({} if bits == 1 else {"bits": bits}))
    words = dict(root=tmp_path, class_names=[str(k) for k in range(16)])
    np.testing.assert_array_equal(create("folder", **words)[0].label, stored)


def test_grey_saved_as_colours_is_ids_and_colours_are_refused(tmp_path: Path) -> None:
    arguments = own_trees.write(tmp_path, "ids", 2)
    known = own_trees.truth(own_trees.scene(0))
    Image.fromarray(known).convert("RGB").save(tmp_path / "labels/clip0_0000.png")
    np.testing.assert_array_equal(create("folder", **arguments)[0].label, known)
    save_image(tmp_path / "labels/clip0_0000.png", size=(H, W))
    with pytest.raises(UserError, match=r"0000\.png: label has 3 channels .*--data folder reads a labelmap\.txt"):
        create("folder", **arguments)[0]


def test_colours_and_values_of_no_class(tmp_path: Path) -> None:
    arguments = own_trees.write(tmp_path / "colours", "colours", 2)
    colour = np.zeros((H, W, 3), np.uint8)
    colour[:2, :3] = (7, 8, 9)
    Image.fromarray(colour).save(tmp_path / "colours/SegmentationClass/clip0_0000.png")
    with pytest.raises(
        UserError, match=r"0000\.png: label colour 7,8,9 \(6 pixels\) of no class .*ignore=.#070809.; known are 0,0,0 b"
    ):
        create("folder", **arguments)[0]
    void = create("folder", **arguments, ignore="#070809")[0].label
    np.testing.assert_array_equal(void, np.where(colour[..., 0] == 7, 255, 0))
    arguments = own_trees.write(tmp_path / "binary", "binary", 2)
    mask = np.zeros((H, W), np.uint8)
    mask[0, :4] = (255, 255, 128, 64)
    Image.fromarray(mask).save(tmp_path / "binary/labels/car/clip0_0000.png")
    with pytest.raises(UserError, match=r"car/clip0_0000\.png: mask values 64, 128 \(2 pixels\) beside 0 and 255"):
        create("folder", **arguments)[0]
    (tmp_path / "binary/labels/van").mkdir()
    Image.fromarray(mask).save(tmp_path / "binary/labels/van/clip0_0000.png")
    with pytest.raises(
        UserError, match=r"van/clip0_0000\.png: a binary mask of no class: .*of background, road, car, sign"
    ):
        create("folder", **arguments)


def test_jpeg_masks_are_refused_wherever_they_lie(tmp_path: Path) -> None:
    for k in range(2):
        save_image(tmp_path / f"both/{k}.jpg")
        save_image(tmp_path / f"both/{k}_mask.jpg")
    with pytest.raises(UserError, match=r"both/0_mask\.jpg: a label in JPG cannot be read: JPEG changes values"):
        create("folder", root=tmp_path / "both", class_names=("a", "b"))
    with pytest.raises(UserError, match=r"labels '.*\*_mask\.jpg': a label in JPEG cannot be read"):
        create("folder", images=tmp_path / "both", labels=f"{tmp_path}/both/*_mask.jpg", class_names=("a", "b"))


def test_binary_masks_by_the_ends_of_names(tmp_path: Path) -> None:
    arguments = own_trees.write(tmp_path, "binary", 3)
    for file in list((tmp_path / "labels").rglob("*.png")):
        file.rename(tmp_path / "labels" / f"{file.stem}_{file.parent.name}.png")
    for folder in own_trees.NAMES[1:]:
        (tmp_path / "labels" / folder).rmdir()
    data = create("folder", **arguments)
    np.testing.assert_array_equal(data.label_of(2), own_trees.truth(own_trees.scene(2)))


def test_several_ids_are_void(tmp_path: Path) -> None:
    arguments = own_trees.write(tmp_path, "ids", 1)
    known = own_trees.truth(own_trees.scene(0))
    label = create("folder", **arguments | {"class_names": ("background",)}, ignore=[1, 2, 3])[0].label
    np.testing.assert_array_equal(label, np.where(known > 0, 255, 0))
    by_name = create("folder", **arguments, ignore="car")
    assert by_name.class_names == ("background", "road", "sign")
    np.testing.assert_array_equal(by_name[0].label, np.array([0, 1, 255, 2], np.uint8)[known])
    with pytest.raises(UserError, match="ignore='cars' is no listed class; did you mean 'car'"):
        create("folder", **arguments, ignore="cars")
    with pytest.raises(UserError, match="ignore: '#12' is no colour"):
        create("folder", **arguments, ignore="#12")
