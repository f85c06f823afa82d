"""The image sizes that a model of transformers takes, and how its scores get back to any other size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.base import resize_to
from segkd.models.wrapping import pad_to_multiple

#: preprocessed images (N, 3, h, w) -> scores (N, K, ...), in windows and padded ones at (h, w)
Run = Callable[[Tensor], Tensor]
#: resampling filters by PIL's numbers or torchvision's names; torch has no Lanczos, which the library replaces likewise
FILTERS = {1: "bicubic", 3: "bicubic", "lanczos": "bicubic", "bicubic": "bicubic"}
MULTIPLES = (1, 2, 4, 8, 14, 16, 32, 64)


class Sizes(NamedTuple):
    """A model's size rule.

    Attributes:
        kind: "any" (padded to ``multiple``), "fixed" (resized to ``size``), "windows" (the shorter side resized to
            ``size``, squares side by side along the longer one, overlaps averaged), "padded" (resized to fit into
            ``size``, the rest filled with black).
        multiple: what H and W of an image must be a multiple of.
        size: (H, W) in pixels.
        filter: of the resize, always antialiased, as the library's processors do.
    """

    kind: str = "any"
    multiple: int = 1
    size: tuple[int, int] = (0, 0)
    filter: str = "bilinear"

    def apply(self, run: Run, x: Tensor, black: Tensor) -> Tensor:
        """The scores of ``run`` at the size of ``x`` (N, 3, H, W); ``black`` (3,) is what a black pixel is in it."""
        height, width = x.shape[-2:]
        if self.kind == "any":
            padded = pad_to_multiple(x, self.multiple)
            return resize_to(run(padded), padded.shape[-2:])[..., :height, :width]
        if self.kind == "fixed":
            return resize_to(run(self.resized(x, self.size)), (height, width))
        if self.kind == "windows":
            return resize_to(self._windows(run, x), (height, width))
        inner = fitting((height, width), self.size)
        canvas = black.view(1, 3, 1, 1).expand(x.shape[0], 3, *self.size).clone()
        canvas[..., : inner[0], : inner[1]] = self.resized(x, inner)
        return resize_to(run(canvas)[..., : inner[0], : inner[1]], (height, width))

    def resized(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """``x`` at ``size`` (H, W)."""
        if tuple(x.shape[-2:]) == size:
            return x
        return F.interpolate(x, size, mode=self.filter, align_corners=False, antialias=True)

    def _windows(self, run: Run, x: Tensor) -> Tensor:
        side = self.size[0]
        height, width = x.shape[-2:]
        tall = height > width
        longer = int(side * max(height, width) / min(height, width))
        x = self.resized(x, (longer, side) if tall else (side, longer))
        axis = 2 if tall else 3
        total: Tensor | None = None
        count = x.new_zeros(longer)
        for start in window_starts(longer, side):
            scores = run(x.narrow(axis, start, side))
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], *x.shape[-2:])
            total.narrow(axis, start, side).add_(scores)
            count[start : start + side] += 1
        assert total is not None  # there is always a window
        return total / (count.view(-1, 1) if tall else count)


def window_starts(length: int, side: int) -> list[int]:
    """Where windows of ``side`` begin that cover ``length`` >= side, evenly, with the least overlap."""
    windows = math.ceil(length / side)
    overlap = (windows * side - length) / (windows - 1) if windows > 1 else 0
    return [int(i * (side - overlap)) for i in range(windows)]


def fitting(size: tuple[int, int], within: tuple[int, int]) -> tuple[int, int]:
    """The largest (H, W) of the shape of ``size`` whose sides are at most the shorter and the longer of ``within``.

    Rounded as the library does: the shorter side to the nearest, the longer one down.
    """
    least, most = min(within), max(within)
    short, long = min(size), max(size)
    exact = float(least)
    if long / short * least > most:
        exact = most * short / long
    shorter, longer = round(exact), int(exact * long / short)
    return (longer, shorter) if size[0] > size[1] else (shorter, longer)


def find_sizes(run: Run, model: Any, processor: Any) -> Sizes:
    """The rule of a ``model`` that ``run`` runs, by what its image processor says and by trying what it takes."""
    config = model.config
    resample = getattr(processor, "resample", None)
    mode = FILTERS.get(getattr(resample, "value", resample), "bilinear")
    said: Any = getattr(processor, "size", None)
    shortest = said.get("shortest_edge") if hasattr(said, "get") else None
    if getattr(processor, "do_split_image", False) and shortest:
        return Sizes("windows", size=(shortest, shortest), filter=mode)
    known = known_size(config)
    if known is not None and hasattr(processor, "do_split_image") and processor.do_pad and not takes(run, 16):
        return Sizes("padded", size=known, filter=mode)
    divisor = getattr(processor, "size_divisor", None)
    if isinstance(divisor, int) and divisor > 1 and takes(run, divisor):
        return Sizes(multiple=divisor)
    multiple = next((m for m in MULTIPLES if takes(run, m, model)), None)
    if multiple is not None:
        return Sizes(multiple=multiple)
    if known is None:
        raise UserError(f"{config.model_type} takes no image of {sizes_of(64)[0]}, and its config names no image_size")
    return Sizes("fixed", size=known, filter=mode)


def sizes_of(multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two sizes (H, W) of at least 64 that are odd multiples of ``multiple``, neither square."""
    odd = math.ceil(64 / multiple) // 2 * 2 + 1
    return (odd * multiple, (odd + 4) * multiple), ((odd + 2) * multiple, odd * multiple)


def takes(run: Run, multiple: int, model: nn.Module | None = None) -> bool:
    """True if images whose sides are just multiples of ``multiple`` run, and ``model`` then looks at all of them.

    Patches that do not overlap leave out what is no whole patch at the edges, without a word; the scores would then be
    stretched over it.
    """
    left_out: list[bool] = []

    def look(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        left_out.append(leaves_out(layer, args[0], output))

    entries = [] if model is None else [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3]
    hooks = [layer.register_forward_hook(look) for layer in entries]
    try:
        for size in sizes_of(multiple):
            run(torch.zeros(1, 3, *size))
    except (ValueError, RuntimeError, IndexError, AssertionError):
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return not any(left_out)


def leaves_out(layer: nn.Module, x: Tensor, output: Tensor) -> bool:
    """True if a convolution that took ``x`` (N, C, H, W) did not reach its last row or column."""
    assert isinstance(layer, nn.Conv2d)
    padding = layer.padding if isinstance(layer.padding, tuple) else (0, 0)
    return any(
        (output.shape[axis + 2] - 1) * layer.stride[axis] + layer.kernel_size[axis] - padding[axis] < x.shape[axis + 2]
        for axis in (0, 1)
    )


def known_size(config: Any) -> tuple[int, int] | None:
    """The image size (H, W) that a config, or that of its backbone, names."""
    for part in configs_in(config):
        size = part.get("image_size") if isinstance(part, Mapping) else getattr(part, "image_size", None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, list | tuple) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def configs_in(config: Any) -> Iterator[Any]:
    """A config and that of its backbone."""
    yield config
    inner = getattr(config, "backbone_config", None)
    if inner is not None:
        yield inner
