"""Labels that cannot teach: splits of nothing but void are refused, classes that never occur are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_distributed import small

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import Sample
from segkd.datasets.folder import FolderDataset
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError
from segkd.training.build import build_dataset
from segkd.training.labels import LOOKS, LOOKS_WITH_IMAGES, check_some_valid, missing_classes
from segkd.training.loop import train
from segkd.training.watch import TermWarning
from segkd.workbench.composing import compose

NAMES = tuple(f"class {k}" for k in range(11))
VOID = np.full((32, 48), 255, np.uint8)


class Given(SegmentationDataset):
    """Labels by index; notes which were asked for."""

    class_names = NAMES
    palette = ((0, 0, 0),) * 11

    def __init__(self, labels: list[NDArray[np.uint8]]) -> None:
        self.labels = labels
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        return Sample(np.zeros((32, 48, 3), np.uint8), self.labels[index])


class Alone(Given):
    """The same, whose labels are had without images."""

    def label_of(self, index: int) -> NDArray[np.uint8]:
        self.asked.append(index)
        return self.labels[index]


def holding(*classes: int) -> NDArray[np.uint8]:
    """A label of these classes and void."""
    label = VOID.copy()
    label[0, : len(classes)] = classes
    return label


def folder(root: Path, labels: list[NDArray[np.uint8]]) -> dict[str, Any]:
    """The arguments of a data set of files with these labels."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for k, label in enumerate(labels):
        cv2.imwrite(str(root / "images" / f"{k}.png"), np.full((32, 48, 3), 40 * k, np.uint8))
        cv2.imwrite(str(root / "labels" / f"{k}.png"), label)
    return dict(images=str(root / "images"), labels=str(root / "labels"))


def config(root: Path, **labels: list[NDArray[np.uint8]]) -> dict[str, Any]:
    cfg = small("plain")
    cfg["data"] = dict(
        dataset=dict(type=FolderDataset, class_names=NAMES),
        augment=dict(type=TrainTransform, crop_size=(32, 32)),
        batch_size=2,
        **{split: folder(root / split, own) for split, own in labels.items()},
    )
    return cfg


ALL = holding(*range(11))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_nothing_but_void_is_refused_before_there_is_a_folder(tmp_path: Path, split: str) -> None:
    labels = {"train": [ALL, ALL], "val": [ALL]} | {split: [VOID, VOID, VOID]}
    with pytest.raises(UserError, match=rf"all 3 labels of data.{split} .* void \(255\)") as caught:
        train(config(tmp_path / "data", **labels), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_one_valid_pixel_is_enough_and_ends_the_search() -> None:
    data = Alone([VOID, VOID, holding(3), VOID, VOID])
    check_some_valid(data, "train")
    assert data.asked == [0, 1, 2]


def test_classes_that_no_label_holds_are_named_in_the_log_and_as_a_warning(tmp_path: Path) -> None:
    cfg = config(tmp_path / "data", train=[holding(0, 1, 2, 3, 4), holding(5, 7, 8, 10)], val=[ALL])
    expected = "no pixel of class 6, class 9 in the training labels (all 2 looked at)"
    with pytest.warns(TermWarning) as caught:
        train(cfg, tmp_path / "run")
    assert [str(one.message).partition(":")[0] for one in caught if "no pixel" in str(one.message)] == [expected]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[0]["warning"].startswith(expected)


def test_nothing_is_said_where_every_class_is_found_and_the_search_ends_there() -> None:
    data = Alone([holding(0, 1, 2), holding(*range(3, 11)), ALL, ALL])
    assert missing_classes(data) == ""
    assert data.asked == [0, 1]


@pytest.mark.parametrize(("kind", "looks"), [(Alone, LOOKS), (Given, LOOKS_WITH_IMAGES)])
def test_no_more_than_some_labels_spread_over_a_large_split_are_read(kind: type[Given], looks: int) -> None:
    data = kind([holding(*range(10))] * 1000)
    assert f"no pixel of class 10 in the training labels ({looks} of 1000 looked at)" in missing_classes(data)
    assert data.asked == [k * 1000 // looks for k in range(looks)]


def test_files_give_a_label_without_the_image(tmp_path: Path) -> None:
    data = FolderDataset(class_names=NAMES, **folder(tmp_path, [holding(4, 2)]))
    (tmp_path / "images" / "0.png").unlink()
    assert (data.label_of(0) == holding(4, 2)).all()
    cv2.imwrite(str(tmp_path / "labels" / "0.png"), holding(77))
    with pytest.raises(UserError, match="label value 77"):
        data.label_of(0)


class Nothing:
    """A metric that has no number to give."""

    def reset(self) -> None: ...

    def update(self, prediction: Any, label: Any) -> None: ...

    def compute(self) -> dict[str, float]:
        return {"mIoU": float("nan"), "other": float("nan")}


def test_scores_that_are_no_numbers_end_the_run(tmp_path: Path) -> None:
    cfg = config(tmp_path / "data", train=[ALL, ALL], val=[ALL]) | dict(metrics=[dict(type=Nothing)])
    with pytest.raises(UserError, match="the validation gives no number: mIoU, other are NaN"):
        train(cfg, tmp_path / "run")


@pytest.mark.parametrize("data", ["cityscapes", "ade20k"])
def test_withheld_labels_are_not_scored_as_others(data: str, request: pytest.FixtureRequest) -> None:
    cfg = compose("fast_scnn", data=data, root=request.getfixturevalue(data))
    assert len(build_dataset(cfg, "val"))
    with pytest.raises(UserError, match="the test labels of this data set are withheld by its owners: score on val"):
        build_dataset(cfg, "test")


def test_masks_in_black_and_white_are_told_from_void() -> None:
    white = np.zeros((32, 48), np.uint8)
    white[:16] = 255
    data = Given([white])
    data.class_names = NAMES[:2]  # type: ignore[misc]
    assert "they hold one class alone" in missing_classes(data)
    assert "label_map={0: 0, 255: 1}" in missing_classes(data)
    data.class_names = NAMES[:3]  # type: ignore[misc]
    data.labels = [np.where(white == 0, np.arange(48) % 2, 255).astype(np.uint8)]
    assert "50 % of their pixels are void" in missing_classes(data)
