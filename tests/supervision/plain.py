"""What the published losses say, in plain float64: sorting, loops and OpenCV, one formula at a time."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

VOID = 255


def draw_label(n: int = 2, height: int = 37, width: int = 51, classes: int = 7, void: float = 0.1) -> Tensor:
    """Slanted regions of several classes, and void: single pixels and a strip."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    maps = []
    for _ in range(n):
        a, b, c, d = torch.rand(4).tolist()
        waves = torch.sin(x * (0.1 + 0.2 * a) + y * 0.3 * b + 9 * c) + torch.cos(y * (0.1 + 0.2 * d) - x * 0.1 * a)
        maps.append(((waves + 2) / 4 * classes).long().clamp(0, classes - 1))
    label = torch.stack(maps)
    if void:
        label[torch.rand(label.shape) < void] = VOID
        label[:, :, :4] = VOID
    return label


def draw_logits(label: Tensor, channels: int, scale: float = 2.0) -> Tensor:
    """(N, channels, H, W) float64; with several channels mostly right, so that probabilities spread over (0, 1)."""
    n, height, width = label.shape
    logits = torch.randn(n, channels, height, width, dtype=torch.float64) * scale
    if channels > 1:
        logits.scatter_add_(1, label.clamp(max=channels - 1)[:, None], torch.full_like(logits[:, :1], 2 * scale))
    return logits


def true_class(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the true class (P,) at the valid pixels, and those pixels' classes (P,)."""
    valid = label != VOID
    chosen = logits.softmax(1).movedim(1, -1)[valid]
    return chosen.gather(1, label[valid][:, None])[:, 0], label[valid]


def ohem_bisenet(logits: Tensor, label: Tensor, threshold: float, least: int) -> Tensor:
    """All losses above -ln(threshold); the ``least`` largest where those are fewer."""
    loss = -true_class(logits, label)[0].log()
    ranked = loss.sort(descending=True).values
    hard = ranked[ranked > -np.log(threshold)]
    return (hard if len(hard) >= least else ranked[:least]).mean()


def ohem_pidnet(logits: Tensor, label: Tensor, threshold: float, least: int, weight: Tensor) -> Tensor:
    """Weighted losses of all pixels whose probability is below the larger of threshold and the least-th smallest."""
    probability, classes = true_class(logits, label)
    ranked, order = probability.sort()
    limit = max(ranked[least].item(), threshold)
    losses = (-probability.log() * weight[classes])[order]
    return losses[ranked < limit].mean()


def opencv_boundary(label: Tensor, width: int = 4, border: int = 6) -> Tensor:
    """Canny of the integer label, its border emptied, dilated by a square."""
    maps = []
    for ids in label.numpy().astype(np.uint8):
        edges = cv2.Canny(ids, 0.1, 0.2)
        inside = np.zeros_like(edges)
        inside[border : len(ids) - border, border : ids.shape[1] - border] = edges[border:-border, border:-border]
        maps.append(cv2.dilate(inside, np.ones((width, width), np.uint8)) > 50)
    return torch.from_numpy(np.stack(maps))


def opencv_distance(label: Tensor, void_is_class: bool) -> Tensor:
    """OpenCV's distance transform of each class's mask, on its pixels; void that is no class is in every mask."""
    maps = []
    for ids in label.numpy():
        distance = np.zeros(ids.shape, np.float32)
        for k in np.unique(ids):
            mask = (ids == k) | ((ids == VOID) & (not void_is_class))
            distance[ids == k] = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)[ids == k]
        maps.append(distance)
    return torch.from_numpy(np.stack(maps))


def balanced_bce(logit: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid pixels of binary cross entropy, each kind weighted by the other one's part."""
    logit, target = logit[valid], target[valid].double()
    part = target.mean()
    p = logit.sigmoid()
    return (-(1 - part) * target * p.log() - part * (1 - target) * (1 - p).log()).mean()


def details(label: Tensor) -> Tensor:
    """Thresholded Laplacians at strides 1, 2, 4, fused with 6, 3 and 1 tenths; the sum must exceed one tenth."""
    kernel = torch.full((1, 1, 3, 3), -1.0, dtype=torch.float64)
    kernel[0, 0, 1, 1] = 8
    tenths = torch.zeros_like(label)
    for stride, share in ((1, 6), (2, 3), (4, 1)):
        found = F.conv2d(label[:, None].double(), kernel, stride=stride, padding=1) > 0.1
        tenths += share * F.interpolate(found.double(), size=label.shape[1:], mode="nearest")[:, 0].long()
    return tenths > 1


def bce_and_dice(logit: Tensor, target: Tensor) -> Tensor:
    p, t = logit.sigmoid(), target.double()
    entropy = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    dice = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, t, strict=True)]
    return entropy + torch.stack(dice).mean()
