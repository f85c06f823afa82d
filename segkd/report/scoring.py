"""What an evaluation leaves in a folder, and says: confusion, images one by one, the worst of them, differences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segkd.report.confusion import draw_confusion, write_confusion, write_csv
from segkd.report.pictures import IGNORE, Image, colourise, grid, write_png

LONGEST = 640  # pixels of a drawn image's longer side
WRONG, RIGHT = (214, 39, 40), (255, 255, 255)


class Bad(Protocol):
    """An image where a model does badly: see ``segkd.workbench.scoring.Bad``."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def miou(self) -> float:
        """Its score."""

    @property
    def image(self) -> Image:
        """(H, W, 3)."""

    @property
    def label(self) -> NDArray[np.uint8]:
        """(H, W)."""

    @property
    def prediction(self) -> NDArray[np.uint8]:
        """(H, W)."""


class Scored(Protocol):
    """What is known of one model: see ``segkd.workbench.scoring.Scored``."""

    @property
    def row(self) -> Mapping[str, Any]:
        """Its scores."""

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Truth by prediction."""

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """The scores of each image."""

    @property
    def worst(self) -> Sequence[Bad]:
        """The images with the lowest scores."""


def write_scores(
    folder: Path, models: Sequence[Scored], class_names: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> list[Path]:
    """Write what is known of each model into a folder of its name below ``folder``; gives these folders.

    ``confusion.png``, ``confusion.csv`` (pixels), ``images.csv`` (scores of each image), ``worst/01_NAME.png`` (image,
    truth, prediction, mistakes).
    """
    found: list[Path] = []
    for scored in models:
        own = folder / as_file_name(str(scored.row["name"]))
        if own in found:
            own = folder / f"{own.name}_{len(found) + 1}"
        found.append(own)
        title = f"{scored.row['name']}: mIoU {scored.row['miou']:.2f} %"
        write_png(own / "confusion.png", draw_confusion(scored.matrix, class_names, title))
        write_confusion(own / "confusion.csv", scored.matrix, class_names)
        write_csv(own / "images.csv", scored.images)
        for number, bad in enumerate(scored.worst, 1):
            write_png(own / "worst" / f"{number:02d}_{as_file_name(bad.name)}.png", draw_bad(bad, palette))
    return found


def as_file_name(name: str) -> str:
    """A name without what no file's may hold."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "model"


def draw_bad(bad: Bad, palette: Sequence[tuple[int, int, int]]) -> Image:
    """Image, truth, prediction and mistakes side by side -> (H, W, 3) uint8 RGB."""
    known = bad.label != IGNORE
    mistakes = np.where((known & (bad.label != bad.prediction))[..., None], WRONG, RIGHT)
    mistakes = np.where(known[..., None], mistakes, 0).astype(np.uint8)
    pictures = [bad.image, colourise(bad.label, palette), colourise(bad.prediction, palette), mistakes]
    factor = min(1.0, LONGEST / max(bad.label.shape))
    height, width = (max(1, round(factor * side)) for side in bad.label.shape)
    ways = (cv2.INTER_AREA, *[cv2.INTER_NEAREST] * 3)
    cells = [
        np.asarray(cv2.resize(picture, (width, height), interpolation=way), np.uint8)
        for picture, way in zip(pictures, ways, strict=True)
    ]
    return grid([cells], [f"{bad.name}: mIoU {bad.miou:.1f} %", "truth", "prediction", "wrong in red"])


def difference_lines(differences: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What may be said of every two models, a line each."""
    for one in differences:
        between = f"{one['low']:+.2f} .. {one['high']:+.2f}"
        verdict = "within noise" if one["verdict"] == "within noise" else f"{one['name']} is {one['verdict']}"
        yield f"{one['name']} against {one['base']}: {one['gain']:+.2f} mIoU, 95 % interval {between}: {verdict}"
    if differences:
        yield "intervals are over images alone: other seeds of a training may differ by more"
