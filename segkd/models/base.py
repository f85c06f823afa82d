"""What every segkd network is: logits at input size, its own preprocessing, and a description of its taps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.fakequant import FAKE_QUANT, FakeQuant, attach, detach, split_tensors
from segkd.fakequant.calls import INPUT
from segkd.images import channels_of
from segkd.models.info import NETWORKS as NETWORKS
from segkd.models.info import FeatureInfo as FeatureInfo
from segkd.models.info import Result as Result
from segkd.models.statedict import named_as_in, read_state_dict
from segkd.registry import Described

RGB = 3  # bands of an image
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: how torch's BatchNorm complains in training of one value per channel
ONE_VALUE = "Expected more than 1 value per channel"


class Preprocess(nn.Module):
    """uint8 RGB image -> the network's input: ``(image[order] * scale - mean) / std``.

    All four constants are buffers, so they travel with the network's weights. ``mean`` and ``std`` are given in the
    network's own channel order and after ``scale``.

    Args:
        mean, std: one value per channel: three, and one of each further band.
        scale: factor applied to the 0..255 image first.
        channels: "RGB" or "BGR", the order that the network expects; further bands come after them.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    order: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        scale: float = 1 / 255,
        channels: str = "RGB",
    ) -> None:
        super().__init__()
        if channels not in ("RGB", "BGR"):
            raise UserError(f"Preprocess channels must be 'RGB' or 'BGR', got {channels!r}")
        if len(mean) < RGB or len(mean) != len(std) or min(std) <= 0:
            raise UserError("Preprocess needs three means and three positive standard deviations, or as many of more")
        order = (0, 1, 2) if channels == "RGB" else (2, 1, 0)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("order", torch.tensor([*order, *range(RGB, len(mean))]))

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) RGB, uint8 or float in 0..255 -> (N, C, H, W) float32."""
        gain = (self.scale / self.std).view(1, -1, 1, 1)
        shift = (self.mean / self.std).view(1, -1, 1, 1)
        return image.index_select(1, self.order).to(self.mean.dtype) * gain - shift


#: role ("classifier", "head", "backbone", "stages", "head_preact" ...) -> tap, or taps from shallow to deep
Roles = Mapping[str, str | Sequence[str]]


class Network(Described, nn.Module):
    """Base of all segkd networks.

    A subclass calls ``super().__init__(num_classes, preprocess)``, sets ``feature_info`` and defines
    ``forward(x (N, 3, H, W) preprocessed) -> logits (N, num_classes, H, W)`` for any H and W from 32 up.
    """

    feature_info: Sequence[FeatureInfo] = ()
    #: role -> tap (``segkd.roles``); none needed for the layer ``classifier`` and its input, the head; () is none
    roles: Roles = {}
    #: what a file that it was begun with (``init``) did not give, a line each; None without one
    left_out: Sequence[str] | None = None
    #: what its outputs are called, in their order, where that is known
    class_names: Sequence[str] | None = None
    #: authors, venue and arXiv number of the paper, and its results
    paper: str = ""
    results: Sequence[Result] = ()
    #: share of the pixels that rounding alone may change, where the network chooses between nearly equal values
    unstable: float = 0.0
    #: matches a tensor's name that only the files of its authors' code have, where those can be imported
    authors_name: str = ""

    def __init__(self, num_classes: int, preprocess: Preprocess | None = None) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"{type(self).__name__} needs at least 2 classes, got num_classes={num_classes}")
        self.num_classes = num_classes
        self.preprocess = preprocess or Preprocess()

    def __call__(self, x: Tensor) -> Tensor:
        """``forward`` and its hooks; of a batch too small to train with, a UserError.

        Only the forward pass knows: that depends on sizes, layers and on which BatchNorms are in eval.
        """
        places = self._modules.get(FAKE_QUANT)
        try:
            if places is not None:  # what it computes is rounded as an int8 file's values are
                with places.around(self):  # type: ignore[operator]
                    return cast(Tensor, super().__call__(places(INPUT, x)))
            out: Tensor = super().__call__(x)
        except ValueError as error:
            if ONE_VALUE not in str(error):
                raise
            raise one_value_error(self, x) from error
        return out

    def train(self, mode: bool = True) -> Self:
        """``nn.Module.train``; a network that rounds stays in eval mode: its statistics are those of the int8 file."""
        return super().train(mode and FAKE_QUANT not in self._modules)

    def find_roles(self, x: Tensor) -> Roles:
        """``roles``; where they are not known beforehand, found by running on ``x`` (N, 3, H, W), preprocessed."""
        return self.roles

    @property
    def channels(self) -> int:
        """How many bands its images have."""
        return channels_of(self)

    def predict(self, image: Tensor) -> Tensor:
        """(N, C, H, W) uint8, the first three bands RGB -> logits (N, K, H, W)."""
        logits: Tensor = self(self.preprocess(image))
        return logits


def resize_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (N, C, h, w) to ``size`` = (H, W), half-pixel centres (align_corners=False)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def resize_corners(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (N, C, h, w) to ``size`` = (H, W) that keeps the corners (align_corners=True)."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def kaiming_init(network: nn.Module) -> None:
    """He et al. (2015) normal init of every convolution by its fan-in (right for depthwise ones too); biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def fan_out_init(network: nn.Module, but: nn.Module | None = None) -> None:
    """He et al. (2015) normal init of every convolution by its fan-out; biases, and what is in ``but``, stay."""
    kept = set(but.modules()) if but is not None else set()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module not in kept:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def norms_after_global_pooling(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """Every BatchNorm that follows a pooling to 1x1 in the same ``nn.Sequential``.

    SyncBatchNorm is not among them: it also counts the other processes' samples.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        pooled = False
        for child in module:
            pooled |= isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1))
            if pooled:
                yield from (m for m in child.modules() if isinstance(m, nn.BatchNorm2d))


def one_value_error(network: nn.Module, x: Tensor) -> UserError:
    """The error for a BatchNorm of ``network`` that met one value per channel, which has no variance."""
    name = f"{type(network).__name__} cannot train with batch size 1"
    if any(norm.training for norm in norms_after_global_pooling(network)):
        return UserError(
            f"{name}: it normalises globally pooled features, one value per channel; use batch_size >= 2 per process, "
            "or its BatchNorm in eval"
        )
    return UserError(
        f"{name} on {x.shape[-2]}x{x.shape[-1]}: one of its maps has one value per channel to normalise; use "
        "batch_size >= 2 per process, larger crops, or its BatchNorm in eval"
    )


def is_authors_name(network: nn.Module, key: str) -> bool:
    """True if a tensor's name is of the authors' code (``Network.authors_name``)."""
    pattern = getattr(network, "authors_name", "")
    return bool(pattern) and re.search(pattern, key) is not None


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file into ``network``, strictly; a file of another network is a UserError that names what differs."""
    apply_weights(network, named_as_in(read_state_dict(path), network), str(path))


def apply_weights(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy ``tensors`` into ``network``; every key and shape must match (checked before anything is changed).

    Those of a network that rounds as an int8 file does (``segkd.fakequant``) make ``network`` round, too.
    """
    tensors, rounding = split_tensors(tensors)
    own, _ = split_tensors(network.state_dict())
    name = type(network).__name__
    if any(is_authors_name(network, key) for key in tensors):
        raise UserError(
            f"{source} has the names of the authors' own code: make a file of ours of it with `segkd import-weights`, "
            "or name what it is by published=..."
        )
    for key, value in tensors.items():
        if key in own and own[key].shape != value.shape:
            raise UserError(
                f"{source} does not fit {name}: {key} is {tuple(value.shape)} in the file, "
                f"{tuple(own[key].shape)} in the network"
            )
    missing = sorted(set(own) - set(tensors))
    extra = sorted(set(tensors) - set(own))
    if missing and not extra and all(key.startswith("preprocess.") for key in missing):
        raise UserError(
            f"{source} fits {name} but does not say its preprocessing: open it as a teacher with "
            "preprocess=dict(mean=..., std=..., scale=1/255, channels='RGB')"
        )
    if missing or extra:
        shown = f"it lacks {missing[0]!r}" if missing else f"it also has {extra[0]!r}"
        hint = f" ({nearest(missing[0], extra)})" if missing and extra else ""
        raise UserError(
            f"{source} holds weights of another network than {name}: {shown}{hint}; "
            f"{len(missing)} missing and {len(extra)} unknown of {len(own)} tensors"
        )
    detach(network)
    network.load_state_dict(dict(tensors), strict=True)
    if rounding:
        attach(network, FakeQuant.of(rounding))
