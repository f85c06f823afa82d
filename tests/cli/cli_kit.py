"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2

from segkd.datasets.synthetic import SyntheticStreets

SIZE = (64, 96)
COUNTS = {"train": 6, "val": 2, "test": 2}
TINY = [
    *("--set", "data.augment.crop_size=64,96"),
    *("--set", "data.batch_size=2"),
    *("--set", "data.workers=0"),
    *("--set", "schedule.steps=2"),
    *("--set", "schedule.val_interval=1"),
]


class Result(NamedTuple):
    """What a command said and returned."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]
Refused = Callable[..., str]


def write_camvid(root: Path) -> Path:
    """Synthetic scenes, whose 11 classes are CamVid's, in CamVid's layout."""
    for split, count in COUNTS.items():
        scenes = SyntheticStreets(length=count, size=SIZE, split=split)
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for k in range(count):
            image, label = scenes[k]
            cv2.imwrite(str(root / "images" / split / f"{k}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(root / "labels" / split / f"{k}.png"), label)
    return root
