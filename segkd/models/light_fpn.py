"""Light classification networks under one small pyramid decoder, by the name of the backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.backbones import BackboneFile, given_file, load_backbone
from segkd.models.base import NETWORKS, Preprocess, load_weights
from segkd.models.timm import PyramidNetwork, build, encoder_preprocess, layout_of
from segkd.models.wrapping import fetch_error

Layout = tuple[list[int], list[int]]
#: torchvision's, by its names
SHUFFLENETS = [f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")]


class ShuffleNetStages(nn.Module):
    """torchvision's ShuffleNetV2 up to its last stage, under its own names: maps of strides 4, 8, 16 and 32.

    ShuffleNet V2: Ma et al., ECCV 2018, arXiv:1807.11164.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.conv1, self.maxpool = model.conv1, model.maxpool
        self.stage2, self.stage3, self.stage4 = model.stage2, model.stage3, model.stage4
        #: strides and channels of the maps
        self.layout: Layout = ([4, 8, 16, 32], list(model._stage_out_channels[:4]))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.maxpool(self.conv1(x))]
        for stage in (self.stage2, self.stage3, self.stage4):
            maps.append(stage(maps[-1]))
        return maps


def build_shufflenet(backbone: str, pretrained: bool | BackboneFile, options: dict[str, Any]) -> ShuffleNetStages:
    """torchvision's backbone, without the layers that only classify images."""
    import torchvision  # inside: it takes a second

    if options:
        raise UserError(f"{backbone} has no option {next(iter(options))!r}: torchvision's ShuffleNets take none")
    try:
        model = torchvision.models.get_model(backbone, weights="DEFAULT" if pretrained is True else None)
    except Exception as error:
        if pretrained is not True:
            raise
        raise fetch_error(f"torchvision's weights of {backbone}", error) from error
    stages = ShuffleNetStages(model)
    if isinstance(pretrained, BackboneFile):
        load_backbone(stages, pretrained, backbone, set(model.state_dict()))
    return stages


def build_backbone(
    backbone: str, pretrained: bool | BackboneFile, options: dict[str, Any]
) -> tuple[Any, Layout, Preprocess]:
    """The backbone as a list of maps, their strides and channels, and the preprocessing it wants."""
    if backbone in SHUFFLENETS:
        shufflenet = build_shufflenet(backbone, pretrained, options)
        given = pretrained.preprocess if isinstance(pretrained, BackboneFile) else None
        return shufflenet, shufflenet.layout, given or Preprocess()
    import timm

    name = backbone.split(".")[0]
    if not timm.is_model(name):
        known = [*SHUFFLENETS, *timm.list_models()]
        raise UserError(f"neither timm nor torchvision has a backbone {backbone!r}; {nearest(name, known)}")
    body = build(backbone, pretrained, options)
    return body, layout_of(body), encoder_preprocess(backbone, pretrained)


@NETWORKS.register("light_fpn")
class LightFPN(PyramidNetwork):
    """A light backbone, a pyramid decoder of depthwise separable convolutions, logits made at stride 4.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). It is the "timm" network with a lighter
    decoder, for backbones of timm and ShuffleNetV2 alike; ``backbone`` is one of

    - ``resnet18``, ``resnet34``, ...; ``convnext_atto``, ...; ``efficientnet_b0``, ``efficientnet_lite0``, ...
    - ``mobilenetv1_100``, ``mobilenetv2_100``, ``mobilenetv3_large_100``, ``mobilenetv4_conv_small``, ...
    - ``shufflenet_v2_x0_5``, ``_x1_0``, ``_x1_5``, ``_x2_0``
    - ``tf_efficientnet_lite0``, ``_lite1``, ``_lite2``: as Google trained them (padding at one side), where timm's
      ``efficientnet_lite0`` pads both sides
    - ``poolformer_s12``, ``_s24``, ``_s36``, ``_m36``, ``_m48``
    - ``efficientformer_l1``, ``_l3``, ``_l7``; ``efficientformerv2_s0``, ``_s1``, ``_s2``, ``_l``

    and any other timm encoder with maps. The backbone initialises itself as its library does, the decoder by He et al.

    Args:
        num_classes: number of classes.
        backbone: its name in timm (with or without ``.tag``) or torchvision.
        weights: local file of this network's state dict, loaded last.
        pretrained: True downloads the library's ImageNet weights of the backbone, and nothing is downloaded otherwise;
            a file holds those of the library's whole network, or is one of ``segkd import-weights``, which brings its
            preprocessing along.
        decoder_channels: width of the decoder.
        options: passed on to ``timm.create_model`` (``drop_path_rate=0.1``).
    """

    paper = "decoder: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, arXiv:1612.03144"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "mobilenetv2_100",
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
        decoder_channels: int = 128,
        **options: Any,
    ) -> None:
        body, layout, preprocess = build_backbone(backbone, given_file(pretrained) or bool(pretrained), options)
        super().__init__(
            body,
            layout,
            decoder_channels,
            num_classes=num_classes,
            preprocess=preprocess,
            name=backbone,
            separable=True,
            size=options.get("img_size"),
        )
        if (
            backbone in SHUFFLENETS
        ):  # joins or pools maps that are rectified, so none exists before: it stands for itself
            self.roles = {**self.roles, **{f"{role}_preact": self.roles[role] for role in ("backbone", "stages")}}
        if weights is not None:
            load_weights(self, weights)
