"""Where a file of labels takes the strongest class: each place scored on images and timed here, and the best chosen."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch

from segkd.datasets import SegmentationDataset
from segkd.deploy.graphs import open_watched
from segkd.deploy.runtimes import OnnxRuntime
from segkd.deploy.tail import find_end, make_labels, tails_of, taken
from segkd.errors import UserError
from segkd.evaluation.inference import strongest
from segkd.evaluation.scores import ConfusionMatrix
from segkd.evaluation.speed import compare_latency
from segkd.images import resize_image, resize_labels
from segkd.workbench import Progress, Row, silent

MAX_DROP = 0.1  # of mIoU, in percent, by which the chosen place may be behind the image's own size


def compare_tails(
    source: str | Path,
    dataset: SegmentationDataset,
    *,
    images: int | None = None,
    threads: int = 2,
    repeats: int = 30,
    progress: Progress = silent,
) -> list[Row]:
    """A row for each place where a file of logits can take the strongest class: ``tail``, ``miou``, ``latency_ms``.

    Args:
        source: the file of logits, for images of one size; images of another are resized, their labels back.
        dataset: on which the labels are scored.
        images: so many, at equal distances; all of them unless given.
    """
    names = tails_of(onnx.load(str(source)))
    rows: list[Row] = [{"tail": name} for name in names]
    if len(names) > 1:
        for row, miou in zip(rows, _scores(Path(source), dataset, names, images, threads, progress), strict=True):
            row["miou"] = miou
    progress("timing", 0, None)
    for row, milliseconds in zip(rows, _times(Path(source), names, threads, repeats), strict=True):
        row["latency_ms"] = milliseconds
    return rows


def _scores(
    source: Path,
    dataset: SegmentationDataset,
    names: Sequence[str],
    images: int | None,
    threads: int,
    progress: Progress,
) -> list[float]:
    """The mIoU by each tail, from one run of the network over the images."""
    runtime, model = OnnxRuntime(source, threads), onnx.load(str(source))
    end = find_end(model)
    session = open_watched(model, [end.native], threads)
    matrices = {name: ConfusionMatrix(dataset.num_classes) for name in names}
    count = min(images or len(dataset), len(dataset))
    for number in range(count):
        sample = dataset[number * len(dataset) // count]
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].contiguous()
        (native,) = session.run([end.native], {"image": runtime.to_input(resize_image(image, end.crop))})
        label = torch.from_numpy(sample.label)[None].long()
        for name, matrix in matrices.items():
            found = strongest(taken(torch.from_numpy(native), end, name))
            matrix.update(resize_labels(found, label.shape[-2:]), label)
        progress("scoring tails", number + 1, count)
    return [matrix.result().miou for matrix in matrices.values()]


def _times(source: Path, names: Sequence[str], threads: int, repeats: int) -> list[float]:
    """Median milliseconds of one image to labels, with each tail, taken in turns."""
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        runs = {}
        for name in names:
            file = Path(folder) / f"{name}.onnx"
            make_labels(source, file, name)
            runtime = OnnxRuntime(file, threads)
            assert runtime.size is not None  # make_labels refuses files for any size
            runs[name] = partial(runtime.labels, torch.zeros(1, runtime.channels, *runtime.size, dtype=torch.uint8))
        return [latency.median_ms for latency in compare_latency(runs, repeats=repeats).values()]


def best_tail(rows: Sequence[Row], max_drop: float = MAX_DROP) -> str:
    """The fastest tail whose mIoU is at most ``max_drop`` (percent) below that of "full"."""
    full = next(row for row in rows if row["tail"] == "full")
    if "miou" not in full:
        return "full"
    near = [row for row in rows if row["miou"] >= full["miou"] - max_drop]
    return str(min(near, key=lambda row: float(row["latency_ms"]))["tail"])


def write_labels(
    source: str | Path, target: str | Path, tail: str, dataset: SegmentationDataset | None, **options: Any
) -> tuple[str, list[Row]]:
    """Make a file of labels by a tail, or by the best one ("auto"); the tail, and the rows by which it was chosen.

    Args:
        source: the file of logits.
        target: the file of labels.
        tail: "full", "half", "quarter", "native", or "auto", which needs ``dataset``.
        dataset, options: see ``compare_tails``.
    """
    rows: list[Row] = []
    if tail == "auto":
        if dataset is None:
            raise UserError("the tail is chosen by scores: name the data, or say which, tail='full'")
        rows = compare_tails(source, dataset, **options)
        tail = best_tail(rows)
    make_labels(source, target, tail)
    return tail, rows
