"""Calibration images speak for the whole training split, not for its first scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pyramid_net import CLASSES, SIZE

from segkd.datasets.base import Sample, SegmentationDataset
from segkd.deploy.formats import load_runtime
from segkd.deploy.parity import random_images
from segkd.workbench.deployment import calibration_images, quantize_file


class Drive(SegmentationDataset):
    """Images of a drive in order: it begins in a dark tunnel, and ends in daylight. Notes which ones are asked for."""

    class_names = CLASSES
    palette = [(0, 0, 0)] * len(CLASSES)

    def __init__(self, length: int = 12, size: tuple[int, int] = SIZE) -> None:
        images = random_images(length, size).permute(0, 2, 3, 1).numpy()
        self.images = [image if k >= length // 3 else image // 16 for k, image in enumerate(images)]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        return Sample(self.images[index], np.zeros(self.images[index].shape[:2], np.uint8))


def test_daylight_is_segmented_although_the_drive_begins_in_a_tunnel(exported: Path, tmp_path: Path) -> None:
    drive = Drive()
    report = quantize_file(exported, drive, tmp_path / "int8.onnx", images=4)
    assert report.images == 4
    assert drive.asked == [0, 3, 6, 9]
    day = torch.from_numpy(np.stack(drive.images[4:])).permute(0, 3, 1, 2).contiguous()
    expected, got = (load_runtime(file).predict(day).argmax(1) for file in (exported, tmp_path / "int8.onnx"))
    assert float((expected == got).double().mean()) > 0.95


def test_images_are_at_equal_distances_and_resized() -> None:
    drive = Drive(10, (40, 64))
    images = list(calibration_images(drive, (20, 32), 3))
    assert drive.asked == [0, 3, 6]
    assert [image.shape for image in images] == [(1, 3, 20, 32)] * 3
    halved = np.asarray(Image.fromarray(drive.images[6]).resize((32, 20), Image.Resampling.BILINEAR), np.int64)
    assert np.abs(images[2][0].permute(1, 2, 0).numpy() - halved).max() <= 1
    assert len(list(calibration_images(drive, (40, 64), 99))) == 10
