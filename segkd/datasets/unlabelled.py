"""Images without labels, from which a student learns by its teacher alone (Liu et al. 2019, section 4.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd.datasets.base import DATASETS, RGB, Array, SegmentationDataset
from segkd.datasets.files import IMAGE_SUFFIXES, existing_root, list_files
from segkd.datasets.image_files import read_image
from segkd.errors import UserError


class Images(ABC):
    """Images by their number, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Array: ...


class ImageFolder(Images):
    """The image files of a folder, in the order of their names.

    Args:
        folder: of them.
        upright, white, channels: see ``segkd.datasets.image_files.read_image``.

    Raises:
        UserError: no such folder, or no image in it.
    """

    def __init__(
        self, folder: str | Path, upright: bool = True, white: float | None = None, channels: int = RGB
    ) -> None:
        self.way = (upright, white, channels)
        self.files = list(list_files(existing_root(folder, "images without labels"), IMAGE_SUFFIXES).values())
        if not self.files:
            raise UserError(f"{folder} holds no image: none of {', '.join(sorted(IMAGE_SUFFIXES))}")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Array:
        return read_image(self.files[index], *self.way)


class WithoutLabels(Images):
    """The images of a data set, whose labels are not used."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Array:
        return self.dataset[index].image


def build_images(given: str | Path | Mapping[str, Any], dataset: Mapping[str, Any]) -> Images:
    """What ``data.unlabelled`` of a config says: a folder, whose images are read as those of ``dataset`` are; or a data
    set, by arguments over those of ``dataset``.
    """
    if isinstance(given, Mapping):
        return WithoutLabels(DATASETS.build({**({} if "type" in given else dataset), **given}))
    return ImageFolder(given, **{key: dataset[key] for key in ("upright", "white", "channels") if key in dataset})
