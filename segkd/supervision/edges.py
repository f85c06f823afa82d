"""Where classes meet, from the label alone and on its device: pure functions of integer maps (N, H, W).

Void is no class: a void neighbour counts as the pixel's own class, and no edge lies on a void pixel. ``valid`` (N, H,
W) says which pixels are not void.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TAN_22 = 13573  # tan(22.5 degrees) in units of 2 ** -15, as OpenCV has it
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
    """Euclidean distance (N, H, W), float32, to the nearest pixel that shares a side with another class's.

    Exact up to ``limit``, and ``limit`` beyond; 0 on those pixels themselves.
    """
    # Down each column, the nearest of what lies along the rows. Squares of both fit 16 bits up to a limit of 128.
    squared = _line_distance(_touches(label, valid), limit).to(torch.int16 if limit <= 128 else torch.int32).square()
    nearest, candidate = squared.clone(), torch.empty_like(squared)
    padded = F.pad(squared, (0, 0, limit, limit), value=limit**2)
    height = label.shape[1]
    for step in range(1, min(limit, height)):
        above, below = padded[:, limit - step :][:, :height], padded[:, limit + step :][:, :height]
        torch.minimum(above, below, out=candidate)
        torch.minimum(nearest, candidate.add_(step**2), out=nearest)
    return nearest.clamp(max=limit**2).float().sqrt()


def _line_distance(mask: Tensor, limit: int) -> Tensor:
    """(N, H, W) bool -> distance along the row to the nearest True, at most ``limit``."""
    position = torch.arange(mask.shape[2], device=mask.device)
    far = 2 * mask.shape[2] + limit
    last = torch.where(mask, position, -far).cummax(2).values
    following = torch.where(mask, position, far).flip(2).cummin(2).values.flip(2)
    return torch.minimum(position - last, following - position).clamp(max=limit)


def _touches(label: Tensor, valid: Tensor) -> Tensor:
    """Pixels that share a side with a pixel of another class."""
    touching = torch.zeros_like(valid)
    for axis in (1, 2):
        a, b = label.narrow(axis, 0, label.shape[axis] - 1), label.narrow(axis, 1, label.shape[axis] - 1)
        both = valid.narrow(axis, 0, label.shape[axis] - 1) & valid.narrow(axis, 1, label.shape[axis] - 1)
        differ = (a != b) & both
        touching.narrow(axis, 0, label.shape[axis] - 1).logical_or_(differ)
        touching.narrow(axis, 1, label.shape[axis] - 1).logical_or_(differ)
    return touching


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
