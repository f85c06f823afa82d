"""Any timm encoder under a small pyramid decoder (https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.backbones import BackboneFile, given_file, load_backbone
from segkd.models.base import (
    NETWORKS,
    Network,
    Preprocess,
    kaiming_init,
    load_weights,
    resize_to,
)
from segkd.models.blocks import ConvNormAct, DepthwiseSeparable
from segkd.models.efficientformer import any_size
from segkd.models.wrapping import (
    FINEST,
    ChannelsFirst,
    backbone_roles,
    check_size,
    describe,
    fetch_error,
    fixed_size,
    pad_to_multiple,
    paths_of,
    probe,
    size_error,
)

#: options of timm's lists of maps that its whole networks have not
ONLY_MAPS = ("out_indices", "feature_cls", "flatten_sequential")


class PyramidDecoder(nn.Module):
    """Top-down pyramid (Lin et al. 2017): 1x1 laterals, the coarser map resized and added, 3x3 smoothing at each level.

    Maps (N, channels[i], Hi, Wi), finest first -> (N, width, H0, W0).

    Args:
        separable: the smoothing is a depthwise 3x3 and a 1x1, an eighth of the work.
    """

    def __init__(self, channels: Sequence[int], width: int, separable: bool = False) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(
            DepthwiseSeparable(width, width) if separable else ConvNormAct(width, width, 3) for _ in channels
        )
        kaiming_init(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        levels = list(zip(features, self.laterals, self.smooth, strict=True))
        feature, lateral, smooth = levels[-1]
        out: Tensor = smooth(lateral(feature))
        for feature, lateral, smooth in reversed(levels[:-1]):
            side = lateral(feature)
            out = smooth(side + resize_to(out, side.shape[-2:]))
        return out


class PyramidNetwork(Network):
    """An encoder, the pyramid decoder on its maps from stride 4 on, a 1x1 classifier; any H, W >= 32.

    Args:
        encoder: image -> list of maps, padded images in multiples of its largest stride.
        layout: (strides, channels) of these maps.
        name: what errors call the encoder.
        size: an image size (H, W), or one side of a square, that the encoder surely takes.
    """

    fixed_size: tuple[int, int] | None = None

    def __init__(
        self,
        encoder: nn.Module,
        layout: tuple[Sequence[int], Sequence[int]],
        decoder_channels: int,
        *,
        num_classes: int,
        preprocess: Preprocess,
        name: str,
        separable: bool = False,
        size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__(num_classes, preprocess)
        strides, channels = layout
        # The last map of each stride, from stride 4 on: {4: 1, 8: 2, ...}.
        self.levels = list({stride: i for i, stride in enumerate(strides) if stride >= FINEST}.values())
        # Maps that are no exact fractions of the image differ between encoders (some round down, some fail).
        self.multiple = max(strides)
        self.encoder: nn.Module = encoder
        #: where taps can read maps that the library makes in another layout, or outside its modules; empty for others
        self.channels_first, self.maps = nn.ModuleList(), nn.ModuleList()
        self.decoder = PyramidDecoder([channels[i] for i in self.levels], decoder_channels, separable)
        self.classifier = nn.Conv2d(decoder_channels, num_classes, 1)
        kaiming_init(self.classifier)
        size = size or (2 * self.multiple, 3 * self.multiple)
        self._describe(name, (size, size) if isinstance(size, int) else size, channels)

    def _describe(self, name: str, size: tuple[int, int], channels: Sequence[int]) -> None:
        """Find out the encoder's layout and taps by running it once."""
        try:
            maps = probe(self.encoder, size)[""][0]
        except (AssertionError, RuntimeError) as error:
            raise size_error(name, size, error) from error
        if all(m.shape[1] != c and m.shape[-1] == c for m, c in zip(maps, channels, strict=True)):
            self.channels_first.extend(ChannelsFirst() for _ in self.levels)
        outputs = probe(self, size)
        features = outputs["encoder"][0]
        stages = paths_of(outputs, features, "encoder")
        if len(self.channels_first):
            stages = [f"channels_first.{i}" for i in range(len(self.levels))]
        elif len(stages) < len(self.levels):
            self.maps.extend(nn.Identity() for _ in self.levels)
            outputs, stages = probe(self, size), [f"maps.{i}" for i in range(len(self.levels))]
        self.feature_info = describe(outputs, [*stages, "decoder", "classifier"], size[0])
        self.roles = backbone_roles(describe(outputs, stages, size[0]))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, self.multiple)
        check_size(padded, self.fixed_size)
        maps = self.encoder(padded)
        features = [maps[i] for i in self.levels]
        if len(self.channels_first):
            features = [permute(f) for permute, f in zip(self.channels_first, features, strict=True)]
        if len(self.maps):
            features = [tap(f) for tap, f in zip(self.maps, features, strict=True)]
        logits = resize_to(self.classifier(self.decoder(features)), padded.shape[-2:])
        return logits[..., :height, :width]


def build(encoder: str, pretrained: bool | BackboneFile, options: dict[str, Any]) -> Any:
    """The library's encoder as a list of feature maps; its complaints become a UserError."""
    import timm  # inside: it takes seconds

    name = encoder.split(".")[0]
    if not timm.is_model(name):
        raise UserError(f"timm has no encoder {encoder!r}; {nearest(name, timm.list_models())}")
    download = pretrained is True
    try:
        body = timm.create_model(encoder, pretrained=download, features_only=True, **options)
        if isinstance(pretrained, BackboneFile):
            load_backbone(body, pretrained, encoder, names_of(encoder, options))
        return any_size(without_idle_blocks(body))
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UserError(f"timm gives no feature maps of {encoder} with {options}: {error}") from error
    except Exception as error:
        if not download:
            raise
        raise fetch_error(f"timm's weights of {encoder}", error) from error


def without_idle_blocks(body: Any) -> Any:
    """The encoder without the blocks behind its last map: timm's EfficientNets and MobileNetV3s keep and run them.

    ``out_indices=(1, 2, 3)`` of EfficientNet-Lite0 needs 0.70 of its 2.96 M parameters.
    """
    stages = getattr(body, "_stage_out_idx", None)  # block counted from 1 -> map; absent from timm's other kinds
    if stages:
        body.blocks = body.blocks[: max(stages)]
    return body


def names_of(encoder: str, options: dict[str, Any]) -> set[str]:
    """The names of all tensors of timm's whole classification network, which a list of maps leaves out in part."""
    import timm

    options = {key: value for key, value in options.items() if key not in ONLY_MAPS}
    with torch.device("meta"):
        return set(timm.create_model(encoder, **options).state_dict())


def layout_of(body: Any) -> tuple[list[int], list[int]]:
    """Strides and channels of the maps of timm's encoder."""
    return body.feature_info.reduction(), body.feature_info.channels()


def encoder_preprocess(encoder: str, pretrained: bool | BackboneFile) -> Preprocess:
    """What the pretrained weights were trained with; ImageNet's mean and std without them.

    A file that does not say it is taken for one of the library's own.
    """
    if not pretrained:
        return Preprocess()
    if isinstance(pretrained, BackboneFile) and pretrained.preprocess is not None:
        return pretrained.preprocess
    import timm

    config = timm.get_pretrained_cfg(encoder)
    return Preprocess(config.mean, config.std)


@NETWORKS.register("timm")
class TimmModel(PyramidNetwork):
    """A timm encoder with a pyramid decoder; logits made at stride 4 (or the finest coarser stride there is).

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W).

    Args:
        encoder: a name of ``timm.list_models()``, with or without ``.tag``.
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        pretrained: True downloads timm's weights of the encoder, and nothing is downloaded otherwise; a file holds
            those of timm's whole network, or is one of ``segkd import-weights``, which brings its preprocessing along.
        decoder_channels: width of the decoder.
        options: passed on to ``timm.create_model`` (``strict_img_size=False`` for Swin at other sizes than 224).
    """

    def __init__(
        self,
        encoder: str,
        *,
        num_classes: int,
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
        decoder_channels: int = 128,
        **options: Any,
    ) -> None:
        source = given_file(pretrained) or bool(pretrained)
        body = build(encoder, source, options)
        super().__init__(
            body,
            layout_of(body),
            decoder_channels,
            num_classes=num_classes,
            preprocess=encoder_preprocess(encoder, source),
            name=f"timm's {encoder}",
            size=options.get("img_size"),
        )
        self.fixed_size = fixed_size(self, options)
        if weights is not None:
            load_weights(self, weights)
