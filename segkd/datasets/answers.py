"""What a teacher gave for each image of a data set, kept in a folder: written once, read in every training step.

A folder holds ``cache.json`` and, for each part ("labelled", "unlabelled"), a file for each image by its number. Each
file has the checksum of its image, so that answers to other images are not taken for those.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkd.datasets.base import Array
from segkd.errors import UserError
from segkd.files import replacing
from segkd.views import View, cells_of, warp

ABOUT = "cache.json"
LABELLED, UNLABELLED = "labelled", "unlabelled"
FLOAT16, UINT8 = "float16", "uint8"
KINDS = (FLOAT16, UINT8)


class Answers:
    """The answers in a folder, for the images of a training.

    Args:
        folder: written by ``segkd cache``.
        counts: {part: images of it that the training has}.

    Raises:
        UserError: no such folder, or a part that it lacks or that has another number of images.
    """

    def __init__(self, folder: str | Path, counts: Mapping[str, int]) -> None:
        self.folder = Path(folder)
        about = read_about(self.folder)
        self.taps: list[dict[str, Any]] = about["taps"]
        self._first = {LABELLED: 0, UNLABELLED: counts.get(LABELLED, 0)}
        for part, count in counts.items():
            kept = about["parts"].get(part)
            if kept != count:
                has = "none" if kept is None else f"those for {kept}"
                raise UserError(
                    f"the training has {count} {part} images, and {folder} {has}: run `segkd cache` with the "
                    "training's own arguments, in a new folder"
                )

    def read(self, index: int, image: Array, view: View, crop: Sequence[int]) -> dict[str, Tensor]:
        """The maps (C, h, w) float16 by tap, for a crop of size (H, W) of the image (H, W, 3) with that number."""
        part = UNLABELLED if index >= self._first[UNLABELLED] and self._first[UNLABELLED] else LABELLED
        path = file_of(self.folder, part, index - self._first[part])
        maps = read_maps(path, image)
        views = torch.tensor([view], dtype=torch.float32)
        found = {}
        for tap, one in zip(self.taps, maps, strict=True):
            cells = cells_of(crop, tap["cells"], tap["image"])  # the same for images of all sizes
            found[tap["path"]] = warp(one[None], views, image.shape[:2], crop, cells)[0].half()
        return found


def read_about(folder: Path) -> dict[str, Any]:
    """What ``cache.json`` says; a UserError where there is none."""
    path = folder / ABOUT
    if not path.is_file():
        raise UserError(f"{folder} holds no answers of a teacher ({ABOUT}): write them with `segkd cache`")
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return about


def file_of(folder: Path, part: str, number: int) -> Path:
    """The file of an image."""
    return folder / part / f"{number:06d}.npz"


def checksum(image: Array) -> int:
    """A checksum of the pixels of an image."""
    return zlib.crc32(image.tobytes())


def write_maps(path: Path, maps: Sequence[Tensor], image: Array, kind: str = FLOAT16, top: int = 0) -> None:
    """Keep maps (C, h, w) of an image.

    Args:
        kind: "float16"; or "uint8", 256 steps from the smallest to the largest value of each channel.
        top: of the first map, logits, keep the log-probabilities of so many classes, the likeliest; the others share
            what is left. 0: all.
    """
    found: dict[str, Array] = {"checksum": np.array(checksum(image), np.uint32)}
    for number, value in enumerate(maps):
        value = value.detach().float().cpu()
        if top and number == 0:
            values, classes = value.log_softmax(0).topk(top, 0)
            found[f"{number}.classes"] = classes.numpy().astype(np.uint8 if len(value) <= 256 else np.uint16)
            found[f"{number}.count"] = np.array(len(value))
            value = values
        if kind == UINT8:
            low, high = value.amin((1, 2), keepdim=True), value.amax((1, 2), keepdim=True)
            step = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
            found[f"{number}.low"], found[f"{number}.step"] = low.numpy(), step.numpy()
            found[str(number)] = ((value - low) / step).round().clamp(0, 255).byte().numpy()
        else:
            limit = torch.finfo(torch.float16).max
            found[str(number)] = value.clamp(-limit, limit).half().numpy()
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **found)  # type: ignore[arg-type]


def read_maps(path: Path, image: Array) -> list[Tensor]:
    """The maps (C, h, w) float32 that were kept of an image; a UserError unless they are of this one."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            content = {key: kept[key] for key in kept.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read a teacher's answers, {path}: {error}; `segkd cache` writes them") from error
    if int(content["checksum"]) != checksum(image):
        raise UserError(
            f"{path} has the answers to another image than the training's: the data set has changed since `segkd cache`"
        )
    maps: list[Tensor] = []
    while (key := str(len(maps))) in content:
        value = torch.from_numpy(content[key]).float()
        if f"{key}.low" in content:
            value = value * torch.from_numpy(content[f"{key}.step"]) + torch.from_numpy(content[f"{key}.low"])
        if f"{key}.classes" in content:
            value = _all_classes(value, torch.from_numpy(content[f"{key}.classes"].astype(np.int64)), content, key)
        maps.append(value)
    return maps


def _all_classes(values: Tensor, classes: Tensor, content: Mapping[str, Array], key: str) -> Tensor:
    """Log-probabilities (K, h, w): those kept, and an equal share of the rest for each other class."""
    count = int(content[f"{key}.count"])
    left = (1 - values.exp().sum(0)).clamp_min(1e-6) / max(1, count - len(values))
    full = left.log().expand(count, *left.shape).clone()
    return full.scatter_(0, classes, values)
