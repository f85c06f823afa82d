"""Street scenes drawn procedurally: the data set that needs no file and no download."""

from __future__ import annotations

import numpy as np

from segkd.datasets._scene import render
from segkd.datasets.base import DATASETS, Sample, SegmentationDataset
from segkd.errors import UserError, nearest

LARGEST = 8192
SPLITS = {"train": 0, "val": 1, "test": 2}


@DATASETS.register("synthetic")
class SyntheticStreets(SegmentationDataset):
    """Random streets with exact labels: the 11 classes, names and palette of CamVid; 255 = things of no class.

    A scene depends on (seed, split, index) alone, not on the order of calls nor on the process; its content is the
    same at every size of the same aspect ratio. Colours and textures are shared among the classes, so that context
    decides. Numbers vary in the last bit between builds of OpenCV, so pixels are equal on one platform only.

    Args:
        length: number of scenes.
        size: (H, W) in pixels, each from 32 to 8192.
        seed: 0 or more; other seeds give other scenes.
        split: "train", "val" or "test"; no scene is in two splits.
        cache: keep every scene in memory once drawn (H * W * 4 bytes each; per process).
    """

    class_names = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    palette = (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    )  # fmt: skip

    def __init__(
        self,
        length: int = 1000,
        size: tuple[int, int] = (256, 512),
        seed: int = 0,
        split: str = "train",
        cache: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise UserError(f"synthetic has no split {split!r}; {nearest(split, SPLITS)}")
        if length < 1:
            raise UserError(f"synthetic needs a length of at least 1, got {length}")
        if len(size) != 2 or min(size) < 32:
            raise UserError(f"synthetic needs a size (H, W) of at least 32 x 32, got {tuple(size)}")
        if max(size) > LARGEST:
            raise UserError(f"synthetic draws scenes of at most {LARGEST} x {LARGEST}, got {tuple(size)}")
        if seed < 0:
            raise UserError(f"synthetic needs a seed of 0 or more, got {seed}")
        self.length, self.size, self.seed, self.split = length, (int(size[0]), int(size[1])), seed, split
        self._kept: dict[int, Sample] | None = {} if cache else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """The scene at ``index``, as arrays of the caller's own; an IndexError beyond the length."""
        at = int(index) + self.length if index < 0 else int(index)
        if not 0 <= at < self.length:
            raise IndexError(f"synthetic {self.split} has {self.length} scenes, no index {index}")
        if self._kept is None:
            return self.draw(at)
        if at not in self._kept:
            self._kept[at] = self.draw(at)
        return Sample(*(part.copy() for part in self._kept[at]))

    def draw(self, index: int) -> Sample:
        """Draw the scene at ``index``, past the cache."""
        entropy = np.random.SeedSequence([self.seed, SPLITS[self.split], index])
        return Sample(*render(*self.size, np.random.Generator(np.random.PCG64(entropy))))

    def files_of(self, index: int) -> tuple[()]:
        return ()

    def name_of(self, index: int) -> str:
        return f"{self.split}_{index:06d}"
