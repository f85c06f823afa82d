"""The places where classes meet, from the label alone and on its device: pure functions of integer maps (N, H, W).

Void is no class: a void neighbour counts as the pixel's own class, and no edge lies on a void pixel. ``valid`` (N, H,
W) says which pixels are not void.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TAN_22 = 13573  # tan(22.5 degrees) in units of 2 ** -15, as OpenCV has it
DIAGONAL, KNIGHT = 1.4, 2.1969  # lengths of steps in OpenCV's 5x5 distance transform
NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def canny(label: Tensor, valid: Tensor) -> Tensor:
    """Edges (N, H, W), bool, one pixel wide: equal to ``cv2.Canny(label, 0.1, 0.2)`` where nothing is void.

    These thresholds are below any step between two classes, so what remains of Canny's method is: Sobel gradients, and
    of each pixel with one whether it is a maximum along the gradient, in OpenCV's integer arithmetic and with its ties.
    """
    gx, gy = _sobel(label, valid)
    size = gx.abs() + gy.abs()
    near = F.pad(size, (1, 1, 1, 1))  # nothing outside

    def at(dy: int, dx: int) -> Tensor:
        return _window(near, dy, dx, size)

    x, y = gx.abs(), gy.abs() << 15
    low = x * TAN_22
    flat, steep = y < low, y > low + (x << 16)
    across = (size > at(0, -1)) & (size >= at(0, 1))
    down = (size > at(-1, 0)) & (size >= at(1, 0))
    falling = (size > at(-1, -1)) & (size > at(1, 1))
    rising = (size > at(-1, 1)) & (size > at(1, -1))
    slanted = torch.where((gx ^ gy) < 0, rising, falling)
    return (size > 0) & torch.where(flat, across, torch.where(steep, down, slanted))


def boundary_target(label: Tensor, valid: Tensor, width: int = 4, border: int = 6) -> Tensor:
    """PIDNet's boundary map (N, H, W), bool: Canny's edges away from the image's border, dilated by a square.

    Args:
        width: side of the square.
        border: pixels at each side in which edges are dropped before the dilation.
    """
    edges = canny(label, valid)
    inside = torch.zeros_like(edges)
    inner = slice(border, -border or None)
    inside[:, inner, inner] = edges[:, inner, inner]
    before, after = width // 2, width - 1 - width // 2  # an even square reaches further up and left, as in OpenCV
    padded = F.pad(inside.float(), (before, after, before, after))
    return F.max_pool2d(padded, width, stride=1) > 0


def detail_target(
    label: Tensor, valid: Tensor, strides: Sequence[int], fuse: Sequence[float], threshold: float
) -> Tensor:
    """STDC's detail map (N, H, W), bool: Laplacians of the label at several strides, each thresholded, then fused.

    The weighted sum ``fuse`` of the maps is thresholded again. Outside the image is class 0, as published.
    """
    response = _laplacian(label, valid)
    fused = torch.zeros(label.shape, dtype=torch.float32, device=label.device)
    for stride, factor in zip(strides, fuse, strict=True):
        found = (response[:, None, ::stride, ::stride] > threshold).float()
        fused += factor * F.interpolate(found, size=label.shape[-2:], mode="nearest")[:, 0]
    return fused > threshold


def boundary_distance(label: Tensor, valid: Tensor, limit: int) -> Tensor:
    """Distance (N, H, W), float32, to the nearest pixel of another class, at most ``limit``: 1 beside it.

    Void is passed over; from a void pixel it is the distance to the nearest one that is not. Where nothing is void it
    equals ``cv2.distanceTransform(label == k, cv2.DIST_L2, 5)`` on the pixels of each class ``k`` (to 1e-6 of it, by
    rounding): the shortest way in steps of 1 to the side, 1.4 to a corner and 2.1969 like a chess knight.
    """
    # In a row, the nearest pixel of another class than k is the nearest one that is not void or, where that is of class
    # k, the nearest of another class than it. Of all rows, the shortest way decides.
    ids = label.to(torch.int16)
    nearest, near, other = (F.pad(x, (0, 0, limit, limit), value=limit) for x in _along_rows(ids, valid, limit))
    gap, same = other - near, torch.empty_like(ids)
    height, way = label.shape[1], _chamfer(limit, label.device)

    def across(dy: int) -> Tensor:
        rows = slice(limit + dy, limit + dy + height)
        torch.eq(nearest[:, rows], ids, out=same)
        return near[:, rows] + gap[:, rows] * same

    distance = across(0).float()
    for dy in range(1, min(limit, height)):
        dx = torch.minimum(across(-dy), across(dy)).int()
        torch.minimum(distance, way[dy].index_select(0, dx.flatten()).view_as(distance), out=distance)
    return distance


def _chamfer(limit: int, device: torch.device) -> Tensor:
    """Length (dy, dx) of the shortest way to a pixel, both from 0 to ``limit``, and at most ``limit``."""
    steps = torch.arange(limit + 1.0, device=device)
    long, short = torch.maximum(steps, steps[:, None]), torch.minimum(steps, steps[:, None])
    flat, steep = long + (KNIGHT - 2) * short, (KNIGHT - DIAGONAL) * long + (2 * DIAGONAL - KNIGHT) * short
    return torch.maximum(flat, steep).clamp(max=limit)


def _along_rows(ids: Tensor, valid: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest valid pixel's class in each pixel's row, its distance, and that of the nearest of another class."""
    left, to_left, past_left = _before(ids, valid, limit)
    right, to_right, past_right = (x.flip(2) for x in _before(ids.flip(2), valid.flip(2), limit))
    nearest = torch.where(to_left <= to_right, left, right)
    other = torch.minimum(
        torch.where(left == nearest, past_left, to_left), torch.where(right == nearest, past_right, to_right)
    )
    return nearest, torch.minimum(to_left, to_right), other


def _before(ids: Tensor, valid: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """As ``_along_rows``, of the pixel itself and those left of it."""
    position, none = torch.arange(ids.shape[2], device=ids.device), -limit
    last = torch.where(valid, position, none).cummax(2).values
    previous = F.pad(last[..., :-1], (1, 0), value=none)
    changes = valid & (previous >= 0) & (ids != ids.gather(2, previous.clamp(min=0)))
    other = torch.where(changes, previous, none).cummax(2).values
    to_last, to_other = ((position - x).clamp(max=limit).to(ids.dtype) for x in (last, other))
    return ids.gather(2, last.clamp(min=0)), to_last, to_other


def _sobel(label: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """3x3 Sobel gradients (N, H, W), int32, along x and along y; outside the image its last pixels are repeated."""
    ids = label.to(torch.int16)  # a gradient is at most 4 times the largest class, and narrow integers are quick
    around, known = _repeat_border(ids), _repeat_border(valid.to(torch.int16))
    gx, gy = torch.zeros_like(ids), torch.zeros_like(ids)
    for dy, dx in NEIGHBOURS:
        step = (_window(around, dy, dx, ids) - ids) * _window(known, dy, dx, ids)
        gx.add_(step, alpha=dx * (2 - abs(dy)))
        gy.add_(step, alpha=dy * (2 - abs(dx)))
    return (gx * valid).int(), (gy * valid).int()


def _repeat_border(x: Tensor) -> Tensor:
    """(N, H, W) -> (N, H + 2, W + 2) (F.pad repeats no integers)."""
    x = torch.cat([x[:, :1], x, x[:, -1:]], 1)
    return torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)


def _laplacian(label: Tensor, valid: Tensor) -> Tensor:
    """8 times the class minus those of the 8 neighbours, (N, H, W), int32."""
    ids = F.pad(label.int(), (1, 1, 1, 1))  # class 0 outside
    known = F.pad(valid, (1, 1, 1, 1), value=True)
    total = torch.zeros_like(label, dtype=torch.int32)
    for dy, dx in NEIGHBOURS:
        total += (label.int() - _window(ids, dy, dx, label)) * (_window(known, dy, dx, label) & valid)
    return total


def _window(padded: Tensor, dy: int, dx: int, like: Tensor) -> Tensor:
    """What lies (dy, dx) from each pixel of ``like`` (N, H, W), in a map with one more pixel at every side."""
    return padded[:, 1 + dy : 1 + dy + like.shape[1], 1 + dx : 1 + dx + like.shape[2]]
