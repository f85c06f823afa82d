"""Label maps of images, seen whole, mirrored, in windows or at several scales; and scores of batches.

Everything works on a ``Predict``: a function from images (N, 3, H, W) uint8 RGB to logits (N, K, H, W). A network's
``predict``, an ONNX file and an int8 file are all such functions, and so is each of them wrapped by ``with_flip``,
``with_windows`` or ``with_scales``; the wrappers nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.evaluation.grid import window_starts
from segkd.evaluation.labelmaps import Predict as Predict
from segkd.evaluation.labelmaps import Seen, label_map
from segkd.evaluation.looking import Views, check_stride
from segkd.evaluation.metric import CONFIDENCE, INSTANCES
from segkd.evaluation.overlap import Behind, read_ahead
from segkd.evaluation.scores import IGNORE, ConfusionMatrix, Scores
from segkd.evaluation.together import Metrics
from segkd.images import resize_image


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x.float(), size=tuple(size), mode="bilinear", align_corners=False)


def _log_mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """log of the mean softmax: again logits, whose softmax is the mean, so that wrappers nest."""
    mean = torch.stack([x.float().softmax(1) for x in logits]).mean(0)
    return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()


def strongest(logits: Tensor) -> Tensor:
    """The strongest class of each pixel; `max` is several times faster than `argmax` over dim 1 on CPUs."""
    return logits.max(1).indices


def with_flip(predict: Predict) -> Predict:
    """Average the class probabilities of the image and of its mirror image."""

    def flipped(image: Tensor) -> Tensor:
        return _log_mean_probability([predict(image), predict(image.flip(-1)).flip(-1)])

    return flipped


def with_scales(predict: Predict, scales: Sequence[float]) -> Predict:
    """Average the class probabilities at several sizes of the image (bilinear; 1.0 = its own size)."""
    if not scales or min(scales) <= 0:
        raise UserError(f"scales must be positive numbers, got {list(scales)}")

    def scaled(image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        logits = []
        for scale in scales:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            logits.append(_resize(predict(resize_image(image, size)), (height, width)))
        return _log_mean_probability(logits)

    return scaled


def with_windows(predict: Predict, window: tuple[int, int], stride: tuple[int, int]) -> Predict:
    """Average the logits of overlapping windows (H, W in pixels), moved by ``stride``; the last ones end at the edge.

    An image smaller than the window in a direction is seen whole in that direction.
    """
    check_stride(window, stride)

    def windowed(image: Tensor) -> Tensor:
        rows, columns = (window_starts(image.shape[i - 2], window[i], stride[i]) for i in (0, 1))
        total: Tensor | None = None
        count = torch.zeros(image.shape[-2:], device=image.device)
        for top in rows:
            for left in columns:
                area = (..., slice(top, top + window[0]), slice(left, left + window[1]))
                part = predict(image[area])
                if total is None:
                    total = part.new_zeros((*part.shape[:2], *image.shape[-2:]), dtype=torch.float32)
                total[area] += part
                count[area] += 1
        assert total is not None
        return total / count.to(total.device)

    return windowed


def with_views(
    predict: Predict,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
) -> Predict:
    """``predict`` as papers score it: in windows, at each of the scales, and on the mirror image too.

    Args:
        predict: images -> logits.
        flip: also look at the mirror image.
        scales: sizes to look at, as factors.
        window, stride: (H, W) of sliding windows and how far they move (default: two thirds of the window).
    """
    if window is not None:
        predict = with_windows(predict, window, stride or (-(-window[0] * 2 // 3), -(-window[1] * 2 // 3)))
    if tuple(scales) != (1.0,):
        predict = with_scales(predict, scales)
    return with_flip(predict) if flip else predict


def evaluate(
    predict: Predict,
    batches: Iterable[Mapping[str, Any]],
    num_classes: int,
    progress: Callable[[int], object] | None = None,
    device: torch.device | str | None = None,
    *,
    count_void: bool = False,
    void_output: bool = False,
    matrix: ConfusionMatrix | None = None,
    views: Views | None = None,
    metrics: Metrics | None = None,
    instances_of: Callable[[int], Any] | None = None,
) -> Scores:
    """Scores of ``predict`` over all batches, whatever runs behind it (torch, ONNX, int8).

    While one batch is predicted, the next is read and the one before is counted.

    Args:
        predict: images (N, 3, H, W) uint8 -> logits (N, K, h, w), resized bilinearly where (h, w) is not the label's
            size.
        batches: dicts of ``image`` (N, 3, H, W) uint8, ``label`` (N, H, W) int64 with 255 = ignore, ``index`` (N,).
        num_classes: K.
        progress: called after each batch with its number of images.
        device: where images and labels are put first.
        count_void: void pixels are false positives of what is predicted there (see ``ConfusionMatrix``).
        void_output: ``predict`` gives K + 1 logits, the last is void.
        matrix: in which to count, in place of a new one with these options.
        views: how each image is looked at.
        metrics: what else is to be updated, on one matrix with its own.
        instances_of: index -> the instances (H, W) of an image, for metrics that need them.

    Raises:
        UserError: a label outside the classes (names the image's index and the value), logits of another number of
            classes, or no batch at all.
    """
    if metrics is not None:
        matrix = metrics.matrix
    matrix = matrix or ConfusionMatrix(num_classes, count_void=count_void, void_output=void_output)
    needs = metrics.needs if metrics is not None else set()
    counter, seen = metrics or matrix, 0

    def checked(image: Tensor) -> Tensor:
        logits = predict(image)
        if logits.shape[1] != num_classes + void_output:
            raise UserError(f"the network predicts {logits.shape[1]} classes, the data set has {num_classes}")
        return logits

    def count(batch: Mapping[str, Any], label: Tensor, found: Seen, first: int) -> None:
        check_labels(label, batch.get("index"), num_classes, first)
        more = {} if found.confidence is None else {CONFIDENCE: found.confidence.to(label.device)}
        if INSTANCES in needs and instances_of is not None:
            more[INSTANCES] = instances_in(batch, instances_of)
        counter.update(found.label.to(label.device), label, **more)

    with Behind() as behind, closing(read_ahead(batches)) as read:
        for batch in read:
            image, label = batch["image"].to(device), batch["label"].to(device)
            with torch.no_grad():
                size = (int(label.shape[-2]), int(label.shape[-1]))
                found = label_map(checked, image, size, views, confident=CONFIDENCE in needs)
            behind.do(partial(count, batch, label, found, seen))
            seen += len(label)
            if progress is not None:
                progress(len(label))
    if seen == 0:
        raise UserError("there is no image to score: the data set or the split is empty")
    return matrix.result()


def instances_in(batch: Mapping[str, Any], instances_of: Callable[[int], Any]) -> Tensor:
    """The instances (N, H, W) of a batch's images, int64, below 0 where there are none."""
    return torch.stack([torch.as_tensor(instances_of(int(index)).astype("int64")) for index in batch["index"]])


def check_labels(label: Tensor, index: Any, num_classes: int, first: int = 0) -> None:
    """Refuse a batch (N, H, W) with a label outside 0..K-1 that is not 255; ``index`` (N,) names the images."""
    wrong = ((label < 0) | (label >= num_classes)) & (label != IGNORE)
    if not bool(wrong.any()):
        return
    where = wrong.nonzero()[0].tolist()
    name = first + where[0] if index is None else int(index[where[0]])
    raise UserError(
        f"image {name}: label {int(label[tuple(where)])} at row {where[1]}, column {where[2]} is outside the "
        f"{num_classes} classes (0..{num_classes - 1}, {IGNORE} = ignore)"
    )
