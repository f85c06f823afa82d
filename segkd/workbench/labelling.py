"""A teacher's answers for a folder of images, as files: classes, how sure it is, and its soft answer.

The label maps are those of one's own data: ids 0..K-1, 255 where the teacher is less sure than it has to be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segkd import arguments
from segkd.datasets.base import IGNORE
from segkd.datasets.files import list_files
from segkd.datasets.label_files import read_label
from segkd.datasets.layouts import PAIRS
from segkd.datasets.lists import write_pairs
from segkd.datasets.unlabelled import ImageFolder
from segkd.errors import UserError
from segkd.files import replacing
from segkd.models import Network
from segkd.models import catalogue as known
from segkd.models.published import CHECKPOINTS
from segkd.report.pictures import grey_png
from segkd.teachers import load_teacher
from segkd.workbench import Progress, silent
from segkd.workbench.resuming import changed, write_classes, write_said
from segkd.workbench.runs import default_device
from segkd.workbench.zoo import WEIGHTS, resolve_release

LABELS, CONFIDENCE, SOFT, CLASSES, ABOUT = "labels", "confidence", "soft", "classes.txt", "label.json"
MOST_CLASSES = IGNORE  # ids are bytes, and 255 is void


class Labelled(NamedTuple):
    """What was written.

    folder: of the files.
    images: how many, those of an earlier call included.
    class_names: of the ids.
    shares: of the pixels that have a class, percent for each; NaN without any.
    void: of all pixels, percent that the teacher was not sure enough of.
    confidence: mean of the largest probability, percent.
    """

    folder: Path
    images: int
    class_names: list[str]
    shares: list[float]
    void: float
    confidence: float


def open_named_teacher(source: Any, **options: Any) -> Network:
    """A teacher by what ``--teacher`` takes: a release, NAME@FILE of ours, or what ``load_teacher`` takes."""
    if isinstance(source, Network):
        return source
    text = resolve_release(source, WEIGHTS)
    name, at, _ = text.partition("@")
    own = name in CHECKPOINTS or name in known.catalogue()
    return load_teacher(f"segkd:{text}" if at and own else text, **options)


def label_images(
    teacher: Network,
    images: str | Path,
    out: str | Path,
    *,
    min_confidence: float = 0.0,
    top: int = 0,
    stride: int = 4,
    upright: bool = True,
    white: float | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Labelled:
    """Write a teacher's answers for all images of a folder; those that are there already stay, if it was the same call.

    Args:
        teacher: in eval mode.
        images: folder of them.
        out: folder: ``labels/NAME.png`` (uint8 ids, 255 = void), ``confidence/NAME.png`` (uint8, 255 = certain),
            ``classes.txt``, ``label.json`` and, when all is there, ``pairs.csv``, by which ``--data FOLDER`` trains.
        min_confidence: pixels whose largest probability is below it are void.
        top: also write ``soft/NAME.npz`` with the ``top`` likeliest classes of each cell: ``classes`` (top, h, w) uint8
            and ``probabilities`` (top, h, w) float16, likeliest first.
        stride: side of such a cell in pixels, over which the probabilities are averaged.
        upright, white: how images are read, see ``segkd.datasets.image_files.read_image``.
        about: what else ``label.json`` shall say (the teacher's source).
        progress: told of the images.

    Raises:
        UserError: no image, more than 255 classes, or a folder that another call has written.
    """
    files, folder = ImageFolder(images, upright, white, teacher.channels), Path(out)
    least = arguments.number(min_confidence, "min_confidence", "labelling", least=0, below=1)
    top = arguments.integer(top, "top", "labelling", 0)
    stride = arguments.integer(stride, "stride", "labelling", 1)
    count = teacher.num_classes
    if count > MOST_CLASSES:
        raise UserError(f"the teacher has {count} classes, a label map holds {MOST_CLASSES}")
    if top > count:
        raise UserError(f"top={top}: the teacher has {count} classes")
    names = list(teacher.class_names or [f"class {k}" for k in range(count)])
    way = {"white": white} if white is not None else {}
    way |= {} if upright else {"upright": False}
    said = {**(about or {}), **way, "images": str(images), "min_confidence": least, "top": top, "stride": stride}
    _begin(folder, {**said, "classes": names})
    device = default_device()
    network = teacher.to(device).eval()
    total, sure = torch.zeros(IGNORE + 1, dtype=torch.int64), 0.0
    for number, file in enumerate(files.files):
        progress("labelling", number, len(files))
        paths = {kind: folder / kind / f"{file.stem}.{ending}" for kind, ending in _kinds(top).items()}
        if not all(path.is_file() for path in paths.values()):
            image = torch.from_numpy(files[number]).permute(2, 0, 1)[None].contiguous().to(device)
            with torch.no_grad():
                _write(paths, _probabilities(network, image), least, top, stride)
        label, confidence = (read_label(paths[kind]) for kind in (LABELS, CONFIDENCE))
        total += torch.bincount(torch.from_numpy(label).flatten().long(), minlength=IGNORE + 1)
        sure += float(confidence.mean()) / 255
    labels = (folder / LABELS / f"{file.stem}.png" for file in files.files)
    pairs = zip(files.files, labels, strict=True)
    write_pairs(
        folder / PAIRS, ((os.path.relpath(file, folder), os.path.relpath(to, folder), None) for file, to in pairs)
    )
    counted = total[:count].double()
    return Labelled(
        folder=folder,
        images=len(files),
        class_names=names,
        shares=(100 * counted / counted.sum()).tolist(),
        void=float(100 * total[IGNORE] / total.sum()),
        confidence=100 * sure / len(files),
    )


def _kinds(top: int) -> dict[str, str]:
    return {LABELS: "png", CONFIDENCE: "png", **({SOFT: "npz"} if top else {})}


def _begin(folder: Path, said: Mapping[str, Any]) -> None:
    """Write what is about to be done; a folder in which something else was done is refused."""
    path = folder / ABOUT
    if path.is_file():
        if (other := changed(path, said)) is not None:
            key, earlier = other
            raise UserError(
                f"{folder} holds labels of another {key}: {earlier!r}, now it is {said[key]!r}; take another folder"
            )
    elif (folder / LABELS).is_dir() and list_files(folder / LABELS, (".png",)):
        raise UserError(f"{folder / LABELS} holds labels that are not of `segkd label`; name another folder")
    for kind in _kinds(said["top"]):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / PAIRS).unlink(missing_ok=True)
    write_said(path, said)
    write_classes(folder / CLASSES, said["classes"])


def _probabilities(network: Network, image: Tensor) -> Tensor:
    """(K, H, W), summing to 1 at each pixel of the image (1, 3, H, W) uint8."""
    logits = network.predict(image).float()
    if logits.shape[-2:] != image.shape[-2:]:
        logits = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return logits.softmax(1)[0]


def _write(paths: Mapping[str, Path], probabilities: Tensor, least: float, top: int, stride: int) -> None:
    """All files of one image; the label last, so that what is there is whole."""
    confidence, label = probabilities.max(0)
    if top:
        cells = F.avg_pool2d(probabilities[None], stride, ceil_mode=True, count_include_pad=False)[0]
        values, classes = cells.topk(top, 0)
        with replacing(paths[SOFT]) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, classes=classes.byte().cpu().numpy(), probabilities=values.half().cpu().numpy())
    _write_grey(paths[CONFIDENCE], (255 * confidence).round())
    _write_grey(paths[LABELS], label.masked_fill(confidence < least, IGNORE))


def _write_grey(path: Path, values: Tensor) -> None:
    data = grey_png(values.byte().cpu().numpy())
    with replacing(path) as temporary:
        temporary.write_bytes(data)
