"""Which samples make which batch, and loaders: resumable, the same on any number of processes, errors in one line."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from segkd.datasets import create
from segkd.datasets.base import DataError, Sample, SegmentationDataset
from segkd.datasets.hearing import Whole
from segkd.datasets.image_cache import ImageCache
from segkd.datasets.loading import Loader, cores, eval_loader, train_loader
from segkd.datasets.order import StepSampler
from segkd.datasets.seeds import mix_seed
from segkd.datasets.tolerant import Tolerant
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError


class Drawn(SegmentationDataset):
    """Random pairs, the same at every call; ``broken`` raises, ``wide`` is of another size."""

    class_names = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))

    def __init__(self, length: int = 10, broken: int = -1, wide: int = -1, bug: int = -1) -> None:
        self.length, self.broken, self.wide, self.bug = length, broken, wide, bug

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise UserError(f"labels/{index}.png: label value 77 outside the classes")
        if index == self.bug:
            raise KeyError("a bug")
        rng = np.random.default_rng(index)
        size = (20, 40 if index == self.wide else 30)
        return Sample(
            rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.choice(np.array([0, 1, 2, 255], dtype=np.uint8), size)
        )


CROP = TrainTransform((16, 24))


def batches(sampler: StepSampler) -> list[list[tuple[int, int]]]:
    return [[(draw.index, draw.seed) for draw in batch] for batch in sampler]


def test_every_epoch_is_a_permutation_and_nothing_is_dropped() -> None:
    indices = [index for batch in batches(StepSampler(10, 4, 15, seed=1)) for index, _ in batch]
    assert len(indices) == 60
    epochs = [indices[k : k + 10] for k in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_resumed_batches_are_those_of_the_uninterrupted_run() -> None:
    whole = batches(StepSampler(10, 4, 15, seed=1))
    for start in (0, 1, 7, 15):
        resumed = StepSampler(10, 4, 15, seed=1, start=start)
        assert batches(resumed) == whole[start:]
        assert len(resumed) == 15 - start
    again = StepSampler(10, 4, 15, seed=1)
    assert batches(again) == batches(again) == whole


def test_ranks_share_the_global_batch() -> None:
    whole = batches(StepSampler(10, 6, 8, seed=2))
    for world in (2, 3, 6):
        parts = [batches(StepSampler(10, 6, 8, seed=2, rank=rank, world_size=world)) for rank in range(world)]
        joined = [[draw for part in parts for draw in part[step]] for step in range(8)]
        assert joined == whole


def test_seed_decides_order_and_draws() -> None:
    one, two = batches(StepSampler(50, 8, 6, seed=0)), batches(StepSampler(50, 8, 6, seed=1))
    assert one != two
    assert [i for b in one for i, _ in b] != [i for b in two for i, _ in b]
    seeds = [seed for batch in batches(StepSampler(7, 7, 200, seed=0)) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)
    assert 0 <= min(seeds) <= max(seeds) < 2**63


def test_first_batches_are_frozen() -> None:
    """A change here changes every published run: the order and the augmentation of all of them."""
    assert [draw.index for draw in StepSampler(367, 8, 1, seed=0).batch(0)] == [321, 53, 112, 310, 162, 298, 59, 164]
    assert mix_seed(0, 0, 321) == StepSampler(367, 8, 1, seed=0).batch(0)[0].seed


def test_mix_is_splitmix64() -> None:
    assert mix_seed(0) == 0xE220A8397B1DCDAF >> 1  # the first outputs of the published generator for two seeds
    assert mix_seed(1234567) == 6457827717110365317 >> 1


def test_mix_spreads() -> None:
    values = [mix_seed(a, b) for a in range(60) for b in range(60)]
    assert len(set(values)) == 3600
    bits = np.unpackbits(np.array(values, dtype=np.uint64).view(np.uint8).reshape(-1, 8), axis=1).mean(0)
    assert np.sort(bits)[0] == 0  # the sign bit
    assert np.abs(np.sort(bits)[1:] - 0.5).max() < 0.05
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert mix_seed(-1) >= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "the data set is empty"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 5, "world_size": 2}, "a multiple of the 2 processes, got 5"),
        ({"rank": 1}, "rank must be"),
        ({"start": 9}, "start must be in 0..steps=8"),
    ],
)
def test_bad_arguments(changes: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        StepSampler(**({"num_samples": 10, "batch_size": 4, "steps": 8, "seed": 0} | changes))


def test_train_batches() -> None:
    data = Drawn()
    (first, *_) = train_loader(data, CROP, 4, 3, seed=5)
    assert {key: (tuple(value.shape), value.dtype) for key, value in first.items()} == {
        "image": ((4, 3, 16, 24), torch.uint8),
        "label": ((4, 16, 24), torch.int64),
        "index": ((4,), torch.int64),
    }
    for row, draw in enumerate(StepSampler(10, 4, 3, seed=5).batch(0)):
        image, label = CROP(*data[draw.index], draw.seed)
        np.testing.assert_array_equal(first["image"][row].permute(1, 2, 0).numpy(), image)
        np.testing.assert_array_equal(first["label"][row].numpy(), label)
        assert first["index"][row] == draw.index


def test_workers_and_resume_give_the_same_batches() -> None:
    whole = list(train_loader(Drawn(), CROP, 4, 6, seed=5))
    for options in ({"workers": 2}, {"start": 2}, {"start": 2, "workers": 1}):
        loaded = list(train_loader(Drawn(), CROP, 4, 6, seed=5, **options))
        for got, want in zip(loaded, whole[options.get("start", 0) :], strict=True):
            assert all(torch.equal(got[key], want[key]) for key in want)


def test_eval_batches_are_the_data_in_order() -> None:
    data = Drawn(5)
    loader = eval_loader(data, batch_size=2)
    for _ in range(2):
        rows = [row for batch in loader for row in zip(batch["image"], batch["label"], batch["index"], strict=True)]
        assert [int(index) for *_, index in rows] == list(range(5))
        for image, label, index in rows:
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), data[int(index)].image)
            np.testing.assert_array_equal(label.numpy(), data[int(index)].label)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_error_stays_one_line(workers: int) -> None:
    with pytest.raises(UserError) as caught:
        read(train_loader(Drawn(broken=3), CROP, 4, 5, seed=0, workers=workers))
    assert str(caught.value) == "labels/3.png: label value 77 outside the classes"
    with pytest.raises(UserError, match=r"^labels/3\.png: label value 77 outside the classes$"):
        read(eval_loader(Drawn(broken=3), workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_skipped_and_counted(workers: int) -> None:
    """What is good stays; in the place of the rest comes another draw, the same whoever loads and from where."""
    plain = list(train_loader(Drawn(), CROP, 4, 6, seed=5))
    with closing(train_loader(Drawn(broken=3), CROP, 4, 6, seed=5, workers=workers, skip_bad=True)) as loader:
        held = list(loader)
    assert loader.skipped == {"labels/3.png: label value 77 outside the classes": 2}  # of 24 draws of 10 images
    for one, two in zip(plain, held, strict=True):
        assert one.keys() == two.keys()
        for k, index in enumerate(one["index"]):
            if index == 3:
                assert 0 <= int(two["index"][k]) < 10
                assert int(two["index"][k]) != 3
            else:
                assert all(torch.equal(one[key][k], two[key][k]) for key in one)
    later = list(train_loader(Drawn(broken=3), CROP, 4, 6, seed=5, start=3, skip_bad=True))
    for one, two in zip(held[3:], later, strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)


class Like:
    """A data set that is only like one of ours."""

    class_names, palette = Drawn.class_names, Drawn.palette

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return tuple(Drawn(broken=3)[index])


def test_a_data_set_of_no_class_of_ours() -> None:
    for one, two in zip(
        train_loader(Drawn(broken=3), CROP, 4, 6, seed=5, skip_bad=True),
        train_loader(Like(), CROP, 4, 6, seed=5, skip_bad=True),
        strict=True,
    ):
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert Tolerant(Like()).label_of(3).shape == (20, 30)  # the next one's
    with pytest.raises(UserError, match="Like does not say which files"):
        ImageCache(Like())


def test_nothing_but_bad_files_ends() -> None:
    with pytest.raises(DataError, match=r"^100 files one after the other cannot be used, the last of them: labels/0"):
        list(train_loader(Drawn(length=1, broken=0), CROP, 1, 2, seed=5, skip_bad=True))


def test_a_teacher_of_whole_images_sees_no_pasted_pixels() -> None:
    transform = TrainTransform((16, 24), paste=0.5, class_share=[0.5, 0.4, 0.1])
    with pytest.raises(UserError, match=r"data\.augment\.paste moves pixels"):
        train_loader(Drawn(), transform, 4, 3, seed=5, hears=Whole())
    chosen = TrainTransform((16, 24), max_class_share=0.4, rare_share=0.5, class_share=[0.5, 0.4, 0.1])
    for batch in train_loader(Drawn(), chosen, 4, 3, seed=5, hears=Whole()):
        assert batch["view"].shape == (4, 4)


def test_pasting_reads_another_image() -> None:
    transform = TrainTransform((16, 24), photometric=False, paste=1.0, paste_by="class", class_share=[0.5, 0.4, 0.1])
    plain = list(train_loader(Drawn(), TrainTransform((16, 24), photometric=False), 4, 3, seed=5))
    pasted = list(train_loader(Drawn(), transform, 4, 3, seed=5))
    for one, two in zip(plain, pasted, strict=True):
        for k in range(4):
            changed = (one["image"][k] != two["image"][k]).any(0)
            assert changed.any()
            assert set(two["label"][k][changed].tolist()) <= {0, 1, 2}
    again = list(train_loader(Drawn(), transform, 4, 3, seed=5, workers=1))
    assert all(torch.equal(one["image"], two["image"]) for one, two in zip(pasted, again, strict=True))
    loader = train_loader(Drawn(broken=3), transform, 4, 6, seed=5, skip_bad=True)  # a partner may be a bad file, too
    list(loader)
    assert loader.skipped.total() > 2


@pytest.mark.filterwarnings("error")
def test_no_more_workers_than_cores() -> None:
    """Configs ask for a GPU machine's; on a small one torch would warn in two long lines."""
    loader = train_loader(Drawn(), CROP, 2, 2, seed=0, workers=64)
    assert loader.num_workers == cores()
    read(loader)


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(KeyError):
        read(eval_loader(Drawn(bug=1), workers=1))


def read(loader: Loader) -> None:
    """Read all, and stop the workers: the garbage collector would wait for them."""
    with closing(loader):
        list(loader)


class Interrupted(Drawn):
    """Each of its images is read by a process that Ctrl-C reaches meanwhile."""

    def __getitem__(self, index: int) -> Sample:
        signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


def test_ctrl_c_is_for_the_parent_alone() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(eval_loader(Interrupted(3)))
    assert len(list(eval_loader(Interrupted(3), workers=1))) == 3


class Leftover:
    """Garbage in a cycle, so that only the collector can finalise it; it then says in which process."""

    def __init__(self, path: Path) -> None:
        self.path, self.me = path, self

    def __del__(self) -> None:
        self.path.write_text(str(os.getpid()))


class Collecting(Drawn):
    def __getitem__(self, index: int) -> Sample:
        gc.collect()
        return super().__getitem__(index)


def test_workers_do_not_finalise_what_the_parent_left(tmp_path: Path) -> None:
    """A finaliser that imports, in the worker's sending thread, loses the batch: the parent would wait for ever."""
    gc.disable()
    try:
        Leftover(tmp_path / "finalised")
        assert len(list(eval_loader(Collecting(3), workers=1))) == 3
        assert not (tmp_path / "finalised").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "finalised").read_text() == str(os.getpid())


def test_sizes_that_differ() -> None:
    with pytest.raises(UserError, match=r"different sizes in one batch: \[\(20, 30\), \(20, 40\)\].*batch_size=1"):
        list(eval_loader(Drawn(wide=1), batch_size=2))
    assert [tuple(batch["label"].shape[1:]) for batch in eval_loader(Drawn(2, wide=1))] == [(20, 30), (20, 40)]


def test_empty_and_wrong_sizes() -> None:
    for make in (lambda data: train_loader(data, CROP, 4, 5, seed=0), eval_loader):
        with pytest.raises(UserError, match="the data set is empty"):
            make(Drawn(0))
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        eval_loader(Drawn(), batch_size=0)
    with pytest.raises(UserError, match="workers must be 0 or more"):
        eval_loader(Drawn(), workers=-1)


def test_camvid_batches(camvid_root: Path) -> None:
    loader = train_loader(create("camvid", root=camvid_root), TrainTransform((352, 480)), 8, 2, seed=0)
    for batch in loader:
        assert batch["image"].shape == (8, 3, 352, 480)
        assert set(batch["label"].unique().tolist()) <= {*range(11), 255}
