"""Networks for images of more than three bands: what reads the image gets more inputs, and more is preprocessed.

A pretrained convolution's weights are taken again for the further bands, in turn, and all of them divided by how much
that adds, as timm's ``adapt_input_conv`` does: maps keep their magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd import arguments
from segkd.errors import UserError, first_line
from segkd.models.base import RGB, Network, Preprocess
from segkd.models.statedict import init_weights, read_state_dict

PROBE = (128, 128)  # a size that no network pads
COLOUR = (0.25, 0.5, 0.75)  # by which a map is known to be the image, resized or not


def begin_wide(network: Network, bands: Any, init: str | Path | None) -> None:
    """``widen``, and take what fits of a file, which is of RGB or of all bands."""
    is_wide = init is not None and len(read_state_dict(init).get("preprocess.mean", ())) > RGB
    if init is not None and not is_wide:
        network.left_out = init_weights(network, init)
    widen(network, bands)
    if init is not None and is_wide:
        network.left_out = init_weights(network, init)


def widen(network: Network, bands: Any) -> None:
    """Let a network for RGB take images of more bands, in place.

    Args:
        network: just made, or with weights for RGB.
        bands: ``dict(mean=..., std=...)`` of the bands beyond the third, one number each, of values 0..1.

    Raises:
        UserError: a network in which other layers than convolutions read the image.
    """
    mean, std = _checked(bands)
    count = RGB + len(mean)
    size = getattr(network, "fixed_size", None) or PROBE
    for convolution in _readers(network, size):
        convolution.weight = nn.Parameter(adapted(convolution.weight.detach(), count))
        convolution.in_channels = count
    network.preprocess = _with(network.preprocess, mean, std)
    args, kwargs = vars(network).get("_made_of", ((), {}))
    vars(network)["_made_of"] = (args, {**kwargs, "bands": {"mean": mean, "std": std}})
    try:
        _run(network, torch.zeros(1, count, *size))
    except RuntimeError as error:
        raise UserError(
            f"{type(network).__name__} cannot take {count} bands: other layers than its first convolutions read the "
            f"image, too ({first_line(error)[:100]}); choose another network"
        ) from error


def adapted(weight: Tensor, count: int) -> Tensor:
    """The weight (out, 3, h, w) of a convolution as one for ``count`` bands."""
    turns = -(-count // RGB)
    return (weight.float().repeat(1, turns, 1, 1)[:, :count] * (RGB / count)).to(weight.dtype)


def _readers(network: Network, size: Sequence[int]) -> list[nn.Conv2d]:
    """The convolutions that read the image, or the image at another size."""
    found: dict[nn.Conv2d, None] = {}
    image = torch.tensor(COLOUR).view(1, RGB, 1, 1).expand(1, RGB, *size)

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        x = given[0]
        if isinstance(module, nn.Conv2d) and x.shape[1] == RGB and module.groups == 1:
            inner = x[:, :, x.shape[2] // 4 : -(x.shape[2] // 4), x.shape[3] // 4 : -(x.shape[3] // 4)]
            if torch.allclose(inner, image[..., :1, :1].expand_as(inner), atol=1e-4):
                found[module] = None

    hooks = [module.register_forward_pre_hook(look) for module in network.modules() if isinstance(module, nn.Conv2d)]
    try:
        _run(network, image)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def _run(network: Network, x: Tensor) -> None:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network(x)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _with(own: Preprocess, mean: Sequence[float], std: Sequence[float]) -> Preprocess:
    """A preprocessing that treats the first three bands as before."""
    scale = float(own.scale)
    mean, std = ([value * 255 * scale for value in values] for values in (mean, std))
    channels = "RGB" if own.order.tolist()[0] == 0 else "BGR"
    return Preprocess([*own.mean.tolist(), *mean], [*own.std.tolist(), *std], scale, channels)


def _checked(bands: Any) -> tuple[list[float], list[float]]:
    if not isinstance(bands, Mapping) or set(bands) != {"mean", "std"}:
        raise UserError(f"bands is dict(mean=[...], std=[...]) of the bands beyond the third, got {bands!r}")
    mean, std = (list(arguments.numbers(bands[key], f"bands.{key}", "a network", least=0)) for key in ("mean", "std"))
    if not mean or len(mean) != len(std) or not all(std):
        raise UserError(f"bands has {len(mean)} means and {len(std)} deviations: give one each of every band, above 0")
    return mean, std
