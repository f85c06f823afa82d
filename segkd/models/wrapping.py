"""What the wrappers of foreign libraries share: padding, and finding the taps of a model by running it once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.base import FeatureInfo

#: strides below are of stems
FINEST = 4


class ChannelsFirst(nn.Module):
    """(N, H, W, C) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """(N, C, H, W) -> (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def pad_to_multiple(x: Tensor, multiple: int, least: int = 0) -> Tensor:
    """(N, C, H, W) grown at the right and at the bottom, by repeating the edge, until ``multiple`` divides H and W.

    ``least`` is the smallest H and W wanted, itself a multiple.

    The edge is repeated because zeros would be an artificial border of the mean colour that normalisation and global
    pooling see; padding on one side only keeps pixel (0, 0) and so every stride's grid where it was.
    """
    height, width = x.shape[-2:]
    bottom = max(-height % multiple, least - height)
    right = max(-width % multiple, least - width)
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def fixed_size(network: nn.Module, options: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) if ``network`` was built for this ``img_size`` and no other, else None.

    Some transformers hold position tables of one size; whether they adapt is found out by trying the double.
    """
    size = options.get("img_size")
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    try:
        probe(network, (2 * height, 2 * width))
    except (AssertionError, RuntimeError):
        return height, width
    return None


def size_error(what: str, size: tuple[int, int], error: Exception) -> UserError:
    """The error for an encoder that failed at the size it was tried with."""
    return UserError(
        f"{what} refuses an image of {size[0]}x{size[1]} ({error}); try strict_img_size=False, dynamic_img_size=True "
        "or img_size=(H, W)"
    )


def check_size(x: Tensor, size: tuple[int, int] | None) -> None:
    """Refuse a (padded) image that is not of the one size that the encoder takes."""
    if size is not None and tuple(x.shape[-2:]) != size:
        raise UserError(
            f"this encoder was built for images of {size[0]}x{size[1]} alone and got {x.shape[-2]}x{x.shape[-1]} "
            "(after padding); give the right img_size=(H, W) in its config"
        )


def fetch_error(what: str, error: Exception) -> UserError:
    """The error for a download that failed."""
    reason = (str(error).splitlines() or [""])[0]
    return UserError(
        f"cannot fetch {what} ({type(error).__name__}: {reason}); "
        "needs a network: else leave pretrained out, or give a local file as weights=..."
    )


def probe(network: nn.Module, size: tuple[int, int]) -> dict[str, list[Any]]:
    """What each submodule put out, call by call, when ``network`` in eval saw one black image of ``size`` (H, W).

    Paths come in the order in which the modules first finished; the network itself is "". It is left in the mode it was
    in.
    """
    outputs: dict[str, list[Any]] = {}

    def recorder(path: str) -> Any:
        return lambda module, args, output: outputs.setdefault(path, []).append(output)

    hooks = [module.register_forward_hook(recorder(path)) for path, module in network.named_modules()]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *size))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return outputs


def drop_idle(module: nn.Module, outputs: Mapping[str, list[Any]], path: str) -> None:
    """Replace the stages of the encoder at ``path`` in which nothing ran by identities.

    A library keeps the stages beyond the asked depth: they would count as parameters, and distributed training stops at
    parameters without a gradient. Looks at direct children only, and through plain containers and a wrapped ``model``:
    deeper, a module's weights may be in use without the module being called (attention projections).
    """
    for name, child in list(module.named_children()):
        below = f"{path}.{name}"
        if not any(p == below or p.startswith(below + ".") for p in outputs):
            setattr(module, name, nn.Identity())
        elif name == "model" or isinstance(child, nn.Sequential | nn.ModuleList):
            drop_idle(child, outputs, below)


def describe(outputs: Mapping[str, list[Any]], paths: Iterable[str], height: int) -> tuple[FeatureInfo, ...]:
    """``feature_info`` of ``paths`` from what ``probe`` saw at an image ``height``; only maps made once."""
    found = []
    for path in paths:
        calls = outputs.get(path, [])
        if len(calls) == 1 and isinstance(calls[0], Tensor) and calls[0].dim() == 4:
            found.append(FeatureInfo(path, calls[0].shape[1], round(height / calls[0].shape[2])))
    return tuple(found)


def paths_of(outputs: Mapping[str, list[Any]], tensors: Iterable[Any], root: str) -> list[str]:
    """Path of the module under ``root`` that made each tensor: the outermost that ran once, the last if several are."""
    paths = []
    for tensor in tensors:
        makers = [p for p, o in outputs.items() if p.startswith(f"{root}.") and len(o) == 1 and o[0] is tensor]
        if makers:
            depth = min(path.count(".") for path in makers)
            paths.append([path for path in makers if path.count(".") == depth][-1])
    return paths


def backbone_roles(infos: Iterable[FeatureInfo]) -> dict[str, str | Sequence[str]]:
    """The roles ``backbone`` and ``stages`` of an encoder's maps, from shallow to deep; those of stems are left out."""
    stages = [info.path for info in infos if info.stride >= FINEST]
    return {"backbone": stages[-1], "stages": stages} if stages else {}


def last_per_shape(outputs: Mapping[str, list[Any]], paths: Iterable[str]) -> list[str]:
    """The last of ``paths``, in order, for each run of maps of equal shape."""
    last: dict[Any, str] = {}
    for path in paths:
        if len(outputs.get(path, [])) == 1 and isinstance(outputs[path][0], Tensor):
            last[outputs[path][0].shape] = path
    return sorted(last.values(), key=list(outputs).index)
