"""The procedural street scenes: determinism, labels, class frequencies, and that colour alone does not tell a class."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from segkd.datasets import create
from segkd.datasets.base import Sample
from segkd.datasets.synthetic import SyntheticStreets
from segkd.errors import UserError

ROOT = Path(__file__).parents[2]
SMALL = (96, 192)
# share of the pixels, in percent, over many scenes: wide enough for any platform, narrow enough to notice a lost class
RANGES = {
    "sky": (4, 20), "building": (15, 40), "pole": (0.8, 4), "road": (18, 40), "pavement": (4, 15), "tree": (6, 22),
    "sign": (0.6, 4), "fence": (1, 7), "car": (4, 16), "pedestrian": (0.5, 4), "bicyclist": (0.3, 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes() -> list[Sample]:
    data = SyntheticStreets(length=80, size=SMALL)
    return [data[i] for i in range(80)]


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample.image.tobytes() + sample.label.tobytes()).hexdigest()


def test_registered_with_the_classes_of_camvid() -> None:
    data = create("synthetic", length=3, size=(64, 128))
    assert isinstance(data, SyntheticStreets)
    assert len(data) == 3
    assert data.num_classes == 11
    assert list(data.class_names) == list(RANGES)
    assert data.palette[3] == (128, 64, 128)
    assert data.palette[10] == (0, 128, 192)
    assert data.name_of(2) == "train_000002"


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    data = SyntheticStreets(length=10, size=SMALL, seed=3)
    forward = [digest(data[i]) for i in range(5)]
    np.random.seed(0)
    again = SyntheticStreets(length=500, size=SMALL, seed=3)
    assert [digest(again[i]) for i in (4, 2, 0, 1, 3)] == [forward[i] for i in (4, 2, 0, 1, 3)]
    others = [SyntheticStreets(size=SMALL, seed=4)[i] for i in range(5)]
    others += [SyntheticStreets(size=SMALL, seed=3, split=split)[i] for split in ("val", "test") for i in range(5)]
    assert len({*forward, *map(digest, others)}) == 20


def test_another_process_draws_the_same() -> None:
    code = (
        "from segkd.datasets.synthetic import SyntheticStreets as S; import hashlib\n"
        "a = S(size=(96, 192), seed=5, split='val')[7]\n"
        "print(hashlib.sha256(a.image.tobytes() + a.label.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == digest(SyntheticStreets(size=SMALL, seed=5, split="val")[7])


@pytest.mark.parametrize("size", [(32, 32), (97, 131), (128, 64), (360, 480), (600, 1100)])
def test_any_size(size: tuple[int, int]) -> None:
    image, label = SyntheticStreets(length=2, size=size)[1]
    assert image.shape == (*size, 3)
    assert label.shape == size
    assert image.dtype == label.dtype == np.uint8
    assert image.flags.c_contiguous
    assert label.flags.c_contiguous
    assert image.flags.writeable
    assert len(np.unique(label)) >= 4


def test_labels_and_frequencies(scenes: list[Sample]) -> None:
    counts = np.array([np.bincount(s.label.ravel(), minlength=256) for s in scenes])
    assert counts[:, 11:255].sum() == 0
    assert 0 < counts[:, 255].sum() < 0.05 * counts.sum()
    assert (counts[:40, :11] > 0).any(axis=0).all()
    assert ((counts[:, :11] > 0).mean(axis=0) >= 0.3).all()
    share = 100 * counts.sum(axis=0) / counts.sum()
    for k, (name, (low, high)) in enumerate(RANGES.items()):
        assert low < share[k] < high, f"{name}: {share[k]:.2f} %"


def test_size_does_not_change_the_content() -> None:
    """The label at twice the size, sampled down, is the label: the same scene, not a similar one."""
    small, large = (SyntheticStreets(size=s, seed=1) for s in ((128, 256), (256, 512)))
    same = [np.mean(small[i].label == large[i].label[1::2, 1::2]) for i in range(12)]
    assert np.mean(same) > 0.95
    assert min(same) > 0.9


def test_image_edges_lie_on_label_edges(scenes: list[Sample]) -> None:
    """Gradients are clearly stronger on label borders, and not two pixels beside them."""
    on, beside, rest = [], [], []
    for image, label in scenes[:40]:
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.7)
        step = np.abs(np.diff(grey, axis=1))
        border = np.diff(label.astype(int), axis=1) != 0
        near = cv2.dilate(border.astype(np.uint8), np.ones((3, 7), np.uint8)) > 0
        shifted = np.roll(border, 3, axis=1) & ~cv2.dilate(border.astype(np.uint8), np.ones((1, 5), np.uint8)).astype(
            bool
        )
        on.append(step[border].mean())
        beside.append(step[shifted].mean())
        rest.append(step[~near].mean())
    assert np.mean(on) > 3 * np.mean(rest)
    assert np.mean(on) > 2 * np.mean(beside)


def mean_accuracy(features: list[np.ndarray], labels: list[np.ndarray], bins: int) -> float:
    """Mean class accuracy of the likeliest class by feature cell (equal priors), learnt on half, tested on half."""
    table = np.zeros((bins, 11))
    half = len(labels) // 2
    for f, y in zip(features[:half], labels[:half], strict=True):
        np.add.at(table, (f[y < 255], y[y < 255]), 1)
    guess = (table / table.sum(axis=0)).argmax(axis=1)
    f, y = (np.concatenate([v.ravel() for v in part[half:]]) for part in (features, labels))
    return float(np.mean([(guess[f[y == k]] == k).mean() for k in range(11)]))


def test_colour_and_brightness_of_texture_do_not_separate_the_classes(scenes: list[Sample]) -> None:
    labels = [s.label for s in scenes]
    colour = [
        (s.image[..., 0] // 32 * 64 + s.image[..., 1] // 32 * 8 + s.image[..., 2] // 32).astype(int) for s in scenes
    ]
    assert mean_accuracy(colour, labels, 512) < 0.45
    rough = []
    for s in scenes:
        grey = cv2.cvtColor(s.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        spread = np.sqrt(np.maximum(cv2.blur(grey * grey, (5, 5)) - cv2.blur(grey, (5, 5)) ** 2, 0))
        rough.append(np.clip(spread, 0, 63).astype(int))
    assert mean_accuracy(rough, labels, 64) < 0.45


def test_cache_keeps_scenes_and_hands_out_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SyntheticStreets(length=3, size=(64, 128), cache=True)
    first = data[1]
    before = digest(first)
    first.image[:] = 0
    monkeypatch.setattr(data, "draw", lambda index: pytest.fail("drawn again"))
    assert digest(data[1]) == before
    assert digest(data[-2]) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "no split 'tset'; did you mean 'test'"),
        ({"size": (16, 64)}, r"at least 32 x 32, got \(16, 64\)"),
        ({"length": 0}, "length of at least 1"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create("synthetic", **arguments)


def test_beyond_the_length_is_an_index_error() -> None:
    data = SyntheticStreets(length=2, size=(64, 128))
    with pytest.raises(IndexError):
        data[2]
    assert len(list(data)) == 2  # the old sequence protocol ends there


def test_a_heavy_network_was_measured_above_a_light_one() -> None:
    measured = json.loads((ROOT / "datasets" / "synthetic" / "difficulty.json").read_text())
    heavy, light = (measured["networks"][name] for name in ("DeepLabV3+-R18", "Fast-SCNN"))
    assert measured["steps"] >= 1500
    assert measured["test_scenes"] == 200
    assert heavy["test_miou"] - light["test_miou"] == pytest.approx(measured["gap_miou"])
    assert measured["gap_miou"] >= 3
    for network in (heavy, light):
        rates = network["val_miou"]
        assert len(rates) == 3
        assert network["learning_rate"] == float(max(rates, key=lambda rate: rates[rate]))


@pytest.mark.slow
def test_the_difficulty_can_be_measured_again(tmp_path: Path) -> None:
    tool = [sys.executable, str(ROOT / "tools" / "synthetic_difficulty.py"), "--steps", "60", "--size", "32x64"]
    for _ in range(2):  # the second finds its six trainings finished
        subprocess.run([*tool, "--out", str(tmp_path / "runs"), "--json", str(tmp_path / "j.json")], check=True)
    measured = json.loads((tmp_path / "j.json").read_text())
    assert len(list((tmp_path / "runs").iterdir())) == 6
    assert set(measured["networks"]["Fast-SCNN"]["val_miou"]) == {"0.016", "0.032", "0.064"}
