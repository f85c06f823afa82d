"""A file that cannot be used, found in a training: it is skipped and counted, or ends it in a line, the state kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_stopped_runs import Noise
from test_training import config as small

from segkd.datasets.base import Sample
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError
from segkd.training.build import build_transform
from segkd.training.loop import train
from segkd.training.state import BEST, LAST, STATE

LINE = "labels/5.png: it is damaged or cut short"
STEPS = dict(steps=6, val_interval=6)


class Damaged(Noise):
    """Noise in which a file has gone bad; ``mended`` is a file that says it is well."""

    def __init__(self, length: int = 12, split: str = "train", mended: str = "", bad: int = 5) -> None:
        super().__init__(length, split)
        self.mended, self.bad = mended, bad

    def __getitem__(self, index: int) -> Sample:
        if self.split == "train" and index == self.bad and not (self.mended and Path(self.mended).exists()):
            raise UserError(f"labels/{index}.png: it is damaged or cut short")
        return super().__getitem__(index)


def config(**data: Any) -> dict[str, Any]:
    cfg = small("alone", schedule=STEPS)
    cfg["data"] |= dict(dataset=dict(type=Damaged), augment=dict(type=TrainTransform, crop_size=(32, 32)), batch_size=2)
    cfg["data"] |= data
    return cfg


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_ends_it_with_the_state_kept(workers: int, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    cfg = config(workers=workers, train=dict(length=12, mended=str(mended)))
    run = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        train(cfg, run)
    step = torch.load(run / STATE, weights_only=True)["step"]
    assert step > 0
    assert str(caught.value) == (
        f"{LINE}; the state after step {step} is kept: mend or remove the file, or skip such files "
        "(data.skip_bad=True), and go on with --resume"
    )
    mended.touch()
    train(cfg, run, resume=True)
    train(cfg, tmp_path / "whole")
    one, two = (torch.load(folder / LAST, weights_only=True) for folder in (run, tmp_path / "whole"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_files_are_counted_and_named(workers: int, tmp_path: Path) -> None:
    cfg = config(workers=workers, skip_bad=True)
    metrics = train(cfg, tmp_path / "run")
    assert metrics["skipped"] == {"draws": 1, "files": {LINE: 1}}
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["skipped"] == metrics["skipped"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines if "skipped" in line] == [LINE]
    if not workers:  # the count goes on with the run
        cfg["schedule"] = dict(steps=12, val_interval=6)
        assert train(cfg, tmp_path / "run", resume=True)["skipped"]["draws"] == 2


def test_the_first_file_may_be_bad(tmp_path: Path) -> None:
    cfg = config(train=dict(length=12, bad=0))
    with pytest.raises(UserError, match=r"^labels/0\.png: it is damaged or cut short$"):
        train(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    cfg["data"]["skip_bad"] = True
    assert train(cfg, tmp_path / "run")["skipped"]["draws"] == 1
    assert (tmp_path / "run" / BEST).is_file()


def test_rare_classes_are_counted_from_the_labels() -> None:
    data, augment = Noise(), dict(type=TrainTransform, crop_size=(32, 32), rare_share=0.5)
    transform = build_transform(augment, data)
    assert transform.rare.class_share.shape == (11,)
    assert abs(transform.rare.class_share.sum() - 1) < 1e-9
    with pytest.raises(UserError, match="class_share has 2 shares, but Noise has 11 classes"):
        build_transform(augment | dict(class_share=[0.5, 0.5]), data)


def test_a_mistake_in_the_augmentation_is_said_first(tmp_path: Path) -> None:
    augment = dict(type=TrainTransform, crop_size=(32, 32), max_class_share=2)
    with pytest.raises(UserError, match=r"TrainTransform: max_class_share must be a number above 0 to 1, got 2"):
        train(config(augment=augment) | dict(model="nonsense"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
