"""Any timm encoder under a small pyramid decoder (https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.base import (
    NETWORKS,
    Network,
    Preprocess,
    kaiming_init,
    load_weights,
    refuse_batch_of_one,
    resize_to,
)
from segkd.models.blocks import ConvNormAct
from segkd.models.wrapping import (
    check_size,
    describe,
    fetch_error,
    only_size,
    pad_to_multiple,
    paths_of,
    probe,
    size_error,
)

FINEST = 4


class ChannelsFirst(nn.Module):
    """(N, H, W, C) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class PyramidDecoder(nn.Module):
    """Top-down pyramid (Lin et al. 2017): 1x1 laterals, the coarser map resized and added, 3x3 smoothing at each level.

    Maps (N, channels[i], Hi, Wi), finest first -> (N, width, H0, W0).
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(ConvNormAct(width, width, 3) for _ in channels)
        kaiming_init(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        levels = list(zip(features, self.laterals, self.smooth, strict=True))
        feature, lateral, smooth = levels[-1]
        out: Tensor = smooth(lateral(feature))
        for feature, lateral, smooth in reversed(levels[:-1]):
            side = lateral(feature)
            out = smooth(side + resize_to(out, side.shape[-2:]))
        return out


def build(encoder: str, pretrained: bool, options: dict[str, Any]) -> Any:
    """The library's encoder as a list of feature maps; its complaints become a UserError."""
    name = encoder.split(".")[0]
    if not timm.is_model(name):
        raise UserError(f"timm has no encoder {encoder!r}; {nearest(name, timm.list_models())}")
    try:
        return timm.create_model(encoder, pretrained=pretrained, features_only=True, **options)
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UserError(f"timm gives no feature maps of {encoder} with {options}: {error}") from error
    except Exception as error:
        if not pretrained:
            raise
        raise fetch_error(f"timm's weights of {encoder}", error) from error


def encoder_preprocess(encoder: str, pretrained: bool) -> Preprocess:
    """What the pretrained weights were trained with; ImageNet's mean and std without them."""
    if not pretrained:
        return Preprocess()
    config = timm.get_pretrained_cfg(encoder)
    return Preprocess(config.mean, config.std)


@NETWORKS.register("timm")
class TimmModel(Network):
    """A timm encoder with a pyramid decoder; logits made at stride 4 (or the finest coarser stride there is).

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W).

    Args:
        encoder: a name of ``timm.list_models()``, with or without ``.tag``.
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        pretrained: download timm's weights of the encoder; nothing is downloaded otherwise.
        decoder_channels: width of the decoder.
        options: passed on to ``timm.create_model`` (``strict_img_size=False`` for Swin at other sizes than 224).
    """

    def __init__(
        self,
        encoder: str,
        *,
        num_classes: int,
        weights: str | Path | None = None,
        pretrained: bool = False,
        decoder_channels: int = 128,
        **options: Any,
    ) -> None:
        body = build(encoder, pretrained, options)
        super().__init__(num_classes, encoder_preprocess(encoder, pretrained))
        strides, channels = body.feature_info.reduction(), body.feature_info.channels()
        # The last map of each stride, from stride 4 on: {4: 1, 8: 2, ...}.
        self.levels = list({stride: i for i, stride in enumerate(strides) if stride >= FINEST}.values())
        # Maps that are no exact fractions of the image differ between encoders (some round down, some fail).
        self.multiple = max(strides)
        self.encoder: nn.Module = body
        self.channels_first = nn.ModuleList()
        self.decoder = PyramidDecoder([channels[i] for i in self.levels], decoder_channels)
        self.classifier = nn.Conv2d(decoder_channels, num_classes, 1)
        kaiming_init(self.classifier)
        self.only_size: tuple[int, int] | None = None
        self._describe(encoder, options, channels)
        self.only_size = only_size(self, options)
        if weights is not None:
            load_weights(self, weights)

    def _describe(self, encoder: str, options: dict[str, Any], channels: Sequence[int]) -> None:
        """Find out the encoder's layout and taps by running it once."""
        size = options.get("img_size", (2 * self.multiple, 3 * self.multiple))
        height, width = (size, size) if isinstance(size, int) else size
        try:
            maps = probe(self.encoder, (height, width))[""][0]
        except (AssertionError, RuntimeError) as error:
            raise size_error(f"timm's {encoder}", (height, width), error) from error
        if all(m.shape[1] != c and m.shape[-1] == c for m, c in zip(maps, channels, strict=True)):
            self.channels_first.extend(ChannelsFirst() for _ in self.levels)
        outputs = probe(self, (height, width))
        features = outputs["encoder"][0]
        stages = paths_of(outputs, features, "encoder")
        if len(self.channels_first):
            stages = [f"channels_first.{i}" for i in range(len(self.levels))]
        self.feature_info = describe(outputs, [*stages, "decoder", "classifier"], height)

    def forward(self, x: Tensor) -> Tensor:
        refuse_batch_of_one(self, x)
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, self.multiple)
        check_size(padded, self.only_size)
        maps = self.encoder(padded)
        features = [maps[i] for i in self.levels]
        if len(self.channels_first):
            features = [permute(f) for permute, f in zip(self.channels_first, features, strict=True)]
        logits = resize_to(self.classifier(self.decoder(features)), padded.shape[-2:])
        return logits[..., :height, :width]
