"""Decoded images kept on disk: the same pairs, made anew when their files change, whole or not there."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from segkd.datasets import image_cache
from segkd.datasets.base import DataError, Sample, SegmentationDataset
from segkd.datasets.folder import FolderDataset
from segkd.datasets.image_cache import Cached, ImageCache, fill, statement
from segkd.datasets.loading import train_loader
from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError

CROP = TrainTransform((48, 64))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six pairs of several sizes."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for k in range(6):
        size = (50 + k, 70)
        cv2.imwrite(str(tmp_path / f"set/images/{k}.png"), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / f"set/labels/{k}.png"), rng.integers(0, 3, size, dtype=np.uint8))
    return tmp_path


def folder(root: Path, **options: Any) -> FolderDataset:
    return FolderDataset(root / "set/images", root / "set/labels", ["a", "b", "c"], **options)


def filled(root: Path, **options: Any) -> ImageCache:
    cache = ImageCache(folder(root), root / "kept")
    assert list(fill(cache, cache.missing(), **options)) == list(range(1, 7))
    return cache


def equal(one: Sample, two: Sample | None) -> None:
    assert two is not None
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_and_batches_are_the_same(workers: int, root: Path) -> None:
    data = folder(root)
    cache = filled(root, workers=workers)
    for index in range(6):
        equal(data[index], cache.read(index))
        np.testing.assert_array_equal(Cached(data, cache).label_of(index), data.label_of(index))
    shutil.copytree(root / "set", root / "away")
    plain = list(train_loader(data, CROP, 4, 5, seed=1))
    with closing(train_loader(Cached(data, cache), CROP, 4, 5, seed=1, workers=workers)) as loader:
        for one, two in zip(plain, loader, strict=True):
            assert all(torch.equal(one[key], two[key]) for key in one)


def test_it_is_read_from_the_cache_and_not_from_the_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(root)
    monkeypatch.setattr(FolderDataset, "__getitem__", None)
    monkeypatch.setattr(FolderDataset, "label_of", None)
    kept = Cached(folder(root), cache)
    assert kept[2].image.shape == (52, 70, 3)
    assert kept.label_of(2).shape == (52, 70)


def test_what_a_reader_writes_into_a_pair_stays_its_own(root: Path) -> None:
    cache = filled(root)
    before = cache.read(0).image.copy()
    cache.read(0).image[:] = 0
    np.testing.assert_array_equal(cache.read(0).image, before)


def test_size_and_room_are_said_before(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ImageCache(folder(root), root / "kept")
    said = statement(cache, cache.missing())
    assert said.startswith("keeping 6 decoded images, 0.00 GB of ")
    assert str(cache.folder) in said
    expected = cache.size(cache.missing())
    list(fill(cache, cache.missing()))
    assert expected == sum(path.stat().st_size for path in cache.folder.rglob("*.raw"))
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, expected - 1))
    with pytest.raises(UserError, match=r"6 decoded images take 0\.0 GB, .* name a folder with more room"):
        statement(cache, range(6))


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_changed_files_are_read_anew(kind: str, root: Path) -> None:
    cache = filled(root)
    file = root / "set" / kind / "3.png"
    changed = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[::-1]
    cv2.imwrite(str(file), changed)
    assert cache.missing() == [3]
    assert cache.read(3) is None
    equal(folder(root)[3], Cached(folder(root), cache)[3])  # from the files, until it is kept
    list(fill(cache, cache.missing()))
    equal(folder(root)[3], cache.read(3))
    os.utime(file, ns=(1, 1))  # the time alone
    assert cache.missing() == [3]


def test_a_file_among_the_arguments_may_change(root: Path) -> None:
    names = root / "classes.txt"
    names.write_text("a\nb\nc\n")
    before = ImageCache(FolderDataset(root / "set/images", root / "set/labels", names), root / "kept").folder
    assert ImageCache(FolderDataset(root / "set/images", root / "set/labels", names), root / "kept").folder == before
    names.write_text("b\na\nc\n")
    assert ImageCache(FolderDataset(root / "set/images", root / "set/labels", names), root / "kept").folder != before


def test_other_arguments_and_versions_are_other_pairs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(root)
    other = ImageCache(folder(root, label_map={0: 0, 1: 0, 2: 1}), root / "kept")
    assert other.folder != cache.folder
    assert other.missing() == list(range(6))
    shutil.copyfile(root / "set/images/0.png", root / "set/images/00.png")  # others are found by their files
    shutil.copyfile(root / "set/labels/0.png", root / "set/labels/00.png")
    assert len(ImageCache(folder(root), root / "kept").missing()) == 1
    monkeypatch.setattr(image_cache.segkd, "__version__", "9.9")
    assert cache.missing() == list(range(6))


def test_damaged_files_of_a_cache_are_made_anew(root: Path) -> None:
    cache = filled(root)
    whole = cache.path(0).read_bytes()
    for content in (b"", whole[:40], whole[:-1], whole + b"x", b"x" * len(whole)):
        cache.path(0).write_bytes(content)
        assert cache.missing() == [0]
    list(fill(cache, [0]))
    equal(folder(root)[0], cache.read(0))


def build(root: Path, kill: bool) -> None:
    """What a process does that keeps all images; one that is killed has kept three, and is at the fourth."""
    cache = ImageCache(folder(root), root / "kept")
    for done in fill(cache, range(6)):
        if kill and done == 3:
            image_cache.np.ascontiguousarray = lambda _: os.kill(os.getpid(), signal.SIGKILL)


def test_two_at_once_and_one_that_is_killed(root: Path) -> None:
    fork = multiprocessing.get_context("fork")
    killed = fork.Process(target=build, args=(root, True))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    cache = ImageCache(folder(root), root / "kept")
    assert cache.missing() == [3, 4, 5]
    both = [fork.Process(target=build, args=(root, False)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert cache.missing() == []
    assert len([path for path in cache.folder.rglob("*") if path.is_file()]) == 6  # nothing unfinished
    for index in range(6):
        equal(folder(root)[index], cache.read(index))


def test_bad_files(root: Path) -> None:
    (root / "set/images/4.png").write_bytes(b"\x89PNG nothing")
    cache = ImageCache(folder(root), root / "kept")
    assert cache.size(cache.missing()) > 0
    with pytest.raises(DataError, match=r"4\.png: cannot be read as image file"):
        list(fill(cache, cache.missing()))
    assert list(fill(cache, cache.missing(), skip_bad=True))
    assert cache.missing() == [4]
    with pytest.raises(UserError, match=r"4\.png"):
        Cached(folder(root), cache)[4]


class Nameless(SegmentationDataset):
    class_names, palette = ("a",), ((0, 0, 0),)

    def __init__(self, what: Any = None) -> None:
        self.what = what

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError


class Named(Nameless):
    def files_of(self, index: int) -> list[Path]:
        return [Path("x")]


def test_data_sets_that_cannot_be_kept() -> None:
    with pytest.raises(UserError, match=r"Nameless does not say which files .* leave data\.cache out"):
        ImageCache(Nameless())
    with pytest.raises(UserError, match="Named has an argument that is not told by a text"):
        ImageCache(Named(object()))


def test_drawn_scenes(tmp_path: Path) -> None:
    data = SyntheticStreets(length=3, size=(32, 64), seed=2)
    cache = ImageCache(data, tmp_path)
    assert cache.size(cache.missing()) == 3 * (64 + 4 * 32 * 64)
    list(fill(cache, cache.missing()))
    for index in range(3):
        equal(data[index], cache.read(index))
    assert ImageCache(SyntheticStreets(length=3, size=(32, 64), seed=3), tmp_path).missing() == [0, 1, 2]
