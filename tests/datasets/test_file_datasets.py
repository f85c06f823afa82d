"""Data sets of files on small trees in their layouts, and on trees with every kind of damage."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segkd.datasets import create
from segkd.datasets.files import FilePairs, read_image, read_label
from segkd.datasets.palettes import spread_palette
from segkd.datasets.verify import verify
from segkd.errors import UserError

H, W = 40, 56
ROOT = Path(__file__).resolve().parents[2]


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (H, W)) -> np.ndarray:
    """A random picture written with PIL, so that OpenCV's reading is tested against another library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return np.asarray(Image.open(path).convert("RGB"))


def save_label(path: Path, label: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label.astype(np.uint8)).save(path)
    return label


def ids(seed: int, low: int, high: int) -> np.ndarray:
    return np.random.default_rng(100 + seed).integers(low, high, (H, W), dtype=np.uint8)


def plain_camvid(
    root: Path, names: tuple[str, ...] = ("a", "b", "c"), splits: tuple[str, ...] = ("train", "val")
) -> Path:
    for split in splits:
        for k, name in enumerate(names):
            save_image(root / "images" / split / f"{split}_{name}.jpg", k)
            save_label(root / "labels" / split / f"{split}_{name}.png", ids(k, 0, 11))
    return root


def segnet_camvid(root: Path, count: int = 3) -> Path:
    for split in ("train", "val"):
        for k in range(count):
            save_image(root / split / f"{split}{k}.png", k)
            save_label(root / f"{split}annot" / f"{split}{k}.png", ids(k, 0, 12))
    return root


# --- layouts -------------------------------------------------------------------------------------------------------


def test_camvid_plain_layout(tmp_path: Path) -> None:
    root = plain_camvid(tmp_path)
    label = ids(1, 0, 11)
    label[:3] = 255
    save_label(root / "labels" / "train" / "train_b.png", label)
    data = create("camvid", root=root, split="train")
    assert len(data) == 3
    assert data.num_classes == 11 == len(data.palette)
    image, read = data[1]
    assert image.dtype == read.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), Image.open(root / "images/train/train_b.jpg"), atol=3)
    np.testing.assert_array_equal(read, label)
    assert data.name_of(1) == "train_b"
    assert len(create("camvid", root=root, split="trainval")) == 6


def test_camvid_segnet_layout_maps_11_to_void(tmp_path: Path) -> None:
    data = create("camvid", root=segnet_camvid(tmp_path), split="val")
    stored = ids(2, 0, 12)
    assert (stored == 11).any()
    np.testing.assert_array_equal(data[2].label, np.where(stored == 11, 255, stored))


def test_camvid_segnet_list_selects_the_pairs(tmp_path: Path) -> None:
    root = segnet_camvid(tmp_path)
    line = "/SegNet/CamVid/train/train{0}.png /SegNet/CamVid/trainannot/train{0}.png\n"
    (root / "train.txt").write_text(line.format(0) + line.format(2) + "\n")
    data = create("camvid", root=root, split="train")
    assert [data.name_of(i) for i in range(len(data))] == ["train0", "train2"]
    assert len(create("camvid", root=root, split="trainval")) == 5
    (root / "train.txt").write_text(line.format(9))
    with pytest.raises(UserError, match=r"train\.txt lists 'train9'"):
        create("camvid", root=root, split="train")


def test_camvid_names_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither images/ and labels/ .* nor train/ and trainannot/"):
        create("camvid", root=tmp_path)


def test_camvid_real(camvid_root: Path) -> None:
    sizes = {
        split: len(create("camvid", root=camvid_root, split=split)) for split in ("train", "val", "test", "trainval")
    }
    assert sizes == {"train": 367, "val": 101, "test": 233, "trainval": 468}
    data = create("camvid", root=camvid_root, split="val")
    image, label = data[50]
    assert image.shape == (360, 480, 3)
    assert set(np.unique(label)) <= {*range(11), 255}
    # Road is grey and below, sky bright and above: a swapped class order or colour order would not pass.
    rows = np.broadcast_to(np.arange(360)[:, None], label.shape)
    assert rows[label == 3].mean() > 240 > 120 > rows[label == 0].mean()
    assert image[label == 0].mean() > image[label == 3].mean()


def save_frame(root: Path, city: str, stored: np.ndarray, split: str = "train", frame: str = "000000_000019") -> None:
    save_image(root / "leftImg8bit" / split / city / f"{city}_{frame}_leftImg8bit.png", 1)
    stem = root / "gtFine" / split / city / f"{city}_{frame}_gtFine_"
    save_label(Path(f"{stem}labelIds.png"), stored)
    save_image(Path(f"{stem}color.png"), 2)  # distributed beside it, not to be read
    save_label(Path(f"{stem}instanceIds.png"), stored)


def test_cityscapes_maps_label_ids(tmp_path: Path) -> None:
    every = np.resize(np.array([*range(34), 255], dtype=np.uint8), (H, W))
    save_frame(tmp_path, "ulm", every)
    save_frame(tmp_path, "aachen", every)
    data = create("cityscapes", root=tmp_path, split="train")
    assert [data.name_of(i) for i in range(2)] == ["aachen/aachen_000000_000019", "ulm/ulm_000000_000019"]
    # By name: what the official label table says about each evaluated class.
    official = {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    assert sorted(official) == sorted(data.class_names)
    label = data[0].label
    for name, stored in official.items():
        assert (label[every == stored] == data.class_names.index(name)).all()
    ignored = ~np.isin(every, list(official.values()))
    assert (label[ignored] == 255).all()
    assert set(every[ignored].tolist()) == {*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 255}


def test_cityscapes_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="root folder not found"):
        create("cityscapes", root=tmp_path / "none")
    with pytest.raises(UserError, match=r"folder not found: .*leftImg8bit"):
        create("cityscapes", root=tmp_path)
    save_frame(tmp_path, "ulm", np.full((H, W), 34, np.uint8))
    with pytest.raises(UserError, match=r"ulm_.*labelIds\.png: label value 34 \(2240 pixels\).*label ids 0\.\.33"):
        create("cityscapes", root=tmp_path)[0]
    with pytest.raises(UserError, match="no split 'valid'; there is: train, val, test"):
        create("cityscapes", root=tmp_path, split="valid")
    (tmp_path / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"ulm_000000_000019_leftImg8bit\.png: no label file"):
        create("cityscapes", root=tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_ade20k(tmp_path: Path, inside: bool) -> None:
    root = tmp_path / "ADEChallengeData2016"
    stored = np.resize(np.arange(151, dtype=np.uint8), (H, W))
    save_image(root / "images/validation/ADE_val_00000001.jpg")
    save_label(root / "annotations/validation/ADE_val_00000001.png", stored)
    data = create("ade20k", root=root if inside else tmp_path, split="val")
    np.testing.assert_array_equal(data[0].label, np.where(stored == 0, 255, stored.astype(int) - 1))
    assert data.num_classes == 150 == len(set(data.class_names)) == len(set(data.palette))
    # Anchors of the published list, counted from 1 as its rows are.
    published = {
        1: "wall",
        13: "person",
        21: "car",
        46: "counter",
        90: "television receiver",
        117: "minibike",
        150: "flag",
    }
    assert {row: data.class_names[row - 1] for row in published} == published


def test_ade20k_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds images/ and annotations/"):
        create("ade20k", root=tmp_path)
    for kind in ("images", "annotations"):
        (tmp_path / kind / "training").mkdir(parents=True)
    with pytest.raises(UserError, match=r"ADE20K split 'train' .* is empty"):
        create("ade20k", root=tmp_path)


def own_folder(root: Path, stored: np.ndarray) -> dict[str, object]:
    save_image(root / "pictures" / "x.png")
    save_label(root / "masks" / "x.png", stored)
    return {"images": root / "pictures", "labels": root / "masks", "class_names": ("ground", "weed", "crop")}


def test_folder(tmp_path: Path) -> None:
    stored = ids(0, 0, 4)
    arguments = own_folder(tmp_path, stored)
    data = create("folder", **arguments, ignore=3)
    np.testing.assert_array_equal(data[0].label, np.where(stored == 3, 255, stored))
    for label_map in ({0: 2, 1: 255, 2: 0, 3: 1}, {"0": 2, "1": 255, "2": 0, "3": 1}):
        mapped = create("folder", **arguments, label_map=label_map)
        np.testing.assert_array_equal(mapped[0].label, np.array([2, 255, 0, 1])[stored])
    assert len(set(data.palette)) == 3
    assert create("folder", **arguments, palette=[(1, 2, 3)] * 3).palette == ((1, 2, 3),) * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "label value 3 "),
        ({"label_map": {0: 0, 1: 1}}, r"label values 2, 3 .* ids of its label_map \(0, 1, 255\)"),
        ({"label_map": {"road": 0}}, "label_map must map whole numbers"),
        ({"label_map": {0: 3}}, "label_map 0 -> 3: there are classes 0..2"),
        ({"palette": [(0, 0, 0)]}, "palette needs one"),
        ({"class_names": ()}, "1 to 254 class_names"),
        ({"ignore": -1}, "ignore must be"),
        ({"labels": "nowhere"}, "root folder not found: nowhere"),
    ],
)
def test_folder_errors(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create("folder", **(own_folder(tmp_path, ids(0, 0, 4)) | changes))[0]


def test_spread_palette_colours_differ() -> None:
    colours = np.array(spread_palette(254))
    apart = np.abs(colours[:, None] - colours[None]).sum(-1)
    assert apart[~np.eye(254, dtype=bool)].min() >= 36
    assert 0 <= colours.min() <= colours.max() <= 255


# --- damage --------------------------------------------------------------------------------------------------------


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def three_channels(root: Path) -> None:
    save_image(root / "labels/train/train_a.png")


def sixteen_bits(root: Path) -> None:
    cv2.imwrite(str(root / "labels/train/train_a.png"), np.zeros((H, W), np.uint16))


def one_bit(root: Path) -> None:
    Image.fromarray(np.eye(H, W, dtype=bool)).save(root / "labels/train/train_a.png")


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
    (sixteen_bits, r"train_a\.png: label has type uint16"),
    (one_bit, r"train_a\.png: label has 1-bit pixels"),
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


def run_verify(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    path = ROOT / "datasets" / "verify.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(path), run_name="__main__")
    return caught.value.code


def test_verify_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = plain_camvid(tmp_path, splits=("train", "val", "test"))
    assert run_verify(monkeypatch, "camvid", "--root", str(root)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"camvid {split}: 3 pairs, 11 classes, 0 problems" for split in ("train", "val", "test")]
    value_77(root)
    (root / "images/val/val_a.jpg").unlink()
    assert run_verify(monkeypatch, "camvid", "--root", str(root)) == 2
    found = capsys.readouterr().out
    assert "label value 77" in found
    assert "val_a.png: no image file" in found
    assert run_verify(monkeypatch, "camvid", "--root", str(root), "--split", "test") == 0
    assert run_verify(monkeypatch, "camvit", "--root", str(root)) == 2
    assert capsys.readouterr().err.strip() == "error: unknown data set 'camvit'; did you mean 'camvid'?"


def test_verify_command_for_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_folder(tmp_path, ids(0, 0, 4))
    folders = ("folder", "--images", str(tmp_path / "pictures"), "--labels", str(tmp_path / "masks"))
    classes = ("--classes", "ground", "weed", "crop")
    assert run_verify(monkeypatch, *folders, *classes, "--ignore", "3") == 0
    assert run_verify(monkeypatch, *folders, *classes, "--label-map", "0:0", "1:1", "2:2", "3:255") == 0
    assert run_verify(monkeypatch, *folders, *classes, "--label-map", "0:0", "1:1") == 2
    assert run_verify(monkeypatch, *folders, *classes) == 2
    assert "label value 3" in capsys.readouterr().out
    assert run_verify(monkeypatch, *folders) == 2
    assert "class_names" in capsys.readouterr().out


def test_verify_script_runs_from_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "datasets" / "verify.py"), "camvid", "--root", "nowhere", "--split", "val"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "camvid val: CamVid split 'val': root folder not found: nowhere\n",
        "",
    )


# --- reading -------------------------------------------------------------------------------------------------------


def test_palette_png_gives_its_indices(tmp_path: Path) -> None:
    indices = ids(0, 0, 5)
    for bits in (4, 8):
        picture = Image.fromarray(indices, mode="P")
        picture.putpalette([v for colour in spread_palette(5) for v in colour])
        picture.save(tmp_path / "p.png", bits=bits)
        np.testing.assert_array_equal(read_label(tmp_path / "p.png"), indices)


def test_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    tags = Image.Exif()
    tags[0x0112] = 6  # "turn by 90 degrees": the label has no such tag
    Image.fromarray(rgb).save(tmp_path / "turned.jpg", exif=tags)
    assert read_image(tmp_path / "turned.jpg").shape == (H, W, 3)


def test_grey_and_alpha_images_become_rgb(tmp_path: Path) -> None:
    grey = ids(0, 0, 256 - 1)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=2))
    Image.fromarray(np.dstack([grey, grey // 2, grey // 3, grey])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), np.dstack([grey, grey // 2, grey // 3]))
