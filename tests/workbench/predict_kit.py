"""What the tests of predictions share: a model whose labels are known, images and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.deploy.runtimes import Runtime
from segkd.workbench.predictors import Predictor, open_predictor

LEVELS = (20, 90, 160, 230)
NAMES = ("black", "dark", "light", "white")
PALETTE = ((10, 0, 0), (0, 200, 0), (0, 0, 250), (250, 250, 0))


class Nearest(Runtime):
    """Labels each pixel by the nearest of grey levels to its red value."""

    name = "nearest"

    def __init__(self, levels: Sequence[int] = LEVELS, **said: Any) -> None:
        super().__init__()
        self.levels = torch.tensor(levels, dtype=torch.float32)
        self.num_classes, self.size, self.file_size = len(levels), None, 0
        self.metadata = said or {"class_names": NAMES, "palette": PALETTE}
        self.device = torch.device("cpu")
        self.batches: list[int] = []

    def again(self) -> Nearest:
        return Nearest(self.levels.tolist(), **self.metadata)

    def _run(self, image: Tensor) -> Tensor:
        self.batches.append(len(image))
        return -(image[:, :1].float() - self.levels.view(1, -1, 1, 1)).abs() / 16


def predictor(levels: Sequence[int] = LEVELS, **said: Any) -> Predictor:
    return open_predictor(Nearest(levels, **said))


def labels_of(image: NDArray[Any], levels: Sequence[int] = LEVELS) -> NDArray[np.int64]:
    """What `Nearest` must see in an image (H, W, 3), by plain NumPy."""
    return np.abs(image[..., :1].astype(int) - np.array(levels)).argmin(-1)


def picture(seed: int, size: tuple[int, int] = (40, 56)) -> NDArray[np.uint8]:
    """An image (H, W, 3) of blocks."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def write_image(path: Path, image: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def write_video(path: Path, frames: Sequence[NDArray[Any]], rate: float = 12.5, codec: str = "mp4v") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    for frame in frames:
        video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    video.release()
    return path


def read_video(path: Path) -> tuple[float, list[NDArray[np.uint8]]]:
    """Frames per second, and the frames (H, W, 3) RGB, by OpenCV alone."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        got, frame = capture.read()
        if not got:
            return capture.get(cv2.CAP_PROP_FPS), frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def listed(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
