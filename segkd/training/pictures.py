"""What a run folder shows of its training: curves of the log, and some validation images as the student sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from segkd.datasets.image_files import visible
from segkd.report.curves import draw_curves
from segkd.report.pictures import Image, colourise, grid, write_png
from segkd.training.log import LOG

CURVES = "curves.png"
VAL_IMAGES = "val_images"
LONGEST = 480  # pixels of a picture's longer side


class Curves:
    """A hook that draws the run's log as ``curves.png`` after each validation: losses per term, and the score."""

    priority = "LOW"

    def after_val_epoch(self, training: Any, metrics: Mapping[str, float]) -> None:
        """Draw all that was logged so far."""
        lines = (training.folder / LOG).read_text(encoding="utf-8").splitlines()
        write_png(training.folder / CURVES, draw_curves(map(json.loads, lines), training.chosen_by))


class ValImages:
    """A hook that draws validation images beside truth and prediction: ``val_images/step_000100.png``.

    They are spread over the first process's part of the split, the same ones each time; the prediction is the one that
    was scored, followed by that of the averaged student where there is one.

    Args:
        count: how many.
    """

    priority = "LOW"

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: dict[int, list[Image]] = {}  # by the number of the batch
        self.sheet: Image | None = None  # of the last validation, (H, W, 3) uint8 RGB

    def before_val_epoch(self, training: Any) -> None:
        """Choose the images."""
        batches = len(training.val_dataloader)
        count = min(self.count, batches)
        self.chosen = {(2 * k + 1) * batches // (2 * count) for k in range(count)}
        self.rows = {}

    def after_val_iter(self, training: Any, batch_idx: int, data_batch: Mapping[str, Tensor], outputs: Tensor) -> None:
        """Keep a chosen batch's first image, small, with its label and predictions (N, H, W)."""
        if batch_idx in self.chosen:
            if batch_idx not in self.rows:
                image = visible(data_batch["image"][0].permute(1, 2, 0).cpu().numpy())
                self.rows[batch_idx] = [shrunk(image), self._coloured(training, data_batch["label"])]
            self.rows[batch_idx].append(self._coloured(training, outputs))

    def _coloured(self, training: Any, classes: Tensor) -> Image:
        return colourise(shrunk(classes[0].cpu().numpy()), training.data.palette)

    def after_val_epoch(self, training: Any, metrics: Mapping[str, float]) -> None:
        """Write the picture."""
        rows = list(self.rows.values())
        self.sheet = grid(rows, ["image", "truth", "prediction", "averaged student"][: len(rows[0])])
        write_png(training.folder / file_of(training.iter), self.sheet)


def file_of(step: int) -> Path:
    """Where in the run folder the picture of the validation after ``step`` steps lies."""
    return Path(VAL_IMAGES) / f"step_{step:06d}.png"


def shrunk(picture: Any) -> Any:
    """An image (H, W, 3) uint8 or classes (H, W), made smaller if its longer side is over ``LONGEST`` pixels."""
    factor = LONGEST / max(picture.shape[:2])
    if factor >= 1:
        return picture
    height, width = (max(1, round(factor * side)) for side in picture.shape[:2])
    if picture.ndim == 3:
        return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    rows, columns = (np.arange(n) * side // n for n, side in zip((height, width), picture.shape, strict=True))
    return picture[np.ix_(rows, columns)]
