"""Any torchvision segmentation model as a segkd network (https://docs.pytorch.org/vision/stable/models.html)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.backbones import BackboneFile, given_file, load_backbone
from segkd.models.base import NETWORKS, FeatureInfo, Network, Roles, load_weights, resize_to
from segkd.models.wrapping import backbone_roles, describe, fetch_error, last_per_shape, probe


def build(arch: str, num_classes: int, pretrained: bool | BackboneFile) -> Any:
    """The library's model, without auxiliary head (supervision is segkd's)."""
    import torchvision  # inside: it takes a second

    known = torchvision.models.list_models(torchvision.models.segmentation)
    if arch not in known:
        raise UserError(f"torchvision has no segmentation model {arch!r}; {nearest(arch, known)}")
    backbone = "DEFAULT" if pretrained is True else None
    try:
        model = torchvision.models.get_model(
            arch, weights=None, weights_backbone=backbone, num_classes=num_classes, aux_loss=False
        )
    except Exception as error:
        if pretrained is not True:
            raise
        raise fetch_error(f"torchvision's backbone weights of {arch}", error) from error
    if isinstance(pretrained, BackboneFile):
        load_backbone(model.backbone, pretrained, arch)
    return model


@NETWORKS.register("torchvision")
class TorchvisionModel(Network):
    """A segmentation model of torchvision: ``backbone`` and ``classifier`` under those names.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W).

    Args:
        arch: "deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large", ...
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        pretrained: True downloads the library's ImageNet weights of the backbone, and nothing is downloaded otherwise;
            a file holds those of its classification network.
    """

    def __init__(
        self,
        arch: str,
        *,
        num_classes: int,
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
    ) -> None:
        from torchvision.models.segmentation import LRASPP

        source = given_file(pretrained) or bool(pretrained)
        model = build(arch, num_classes, source)
        super().__init__(num_classes, source.preprocess if isinstance(source, BackboneFile) else None)
        self.backbone: nn.Module = model.backbone
        self.classifier: nn.Module = model.classifier
        # LR-ASPP's classifier takes the backbone's two maps, the others the last one.
        self.takes_all = isinstance(model, LRASPP)
        outputs = probe(self, (64, 64))
        stages = last_per_shape(outputs, [f"backbone.{name}" for name, _ in self.backbone.named_children()])
        self.feature_info = describe(outputs, [*stages, "classifier"], height=64)
        self.roles = self._find_roles(describe(outputs, stages, height=64))
        if weights is not None:
            load_weights(self, weights)

    def _find_roles(self, maps: Sequence[FeatureInfo]) -> Roles:
        """A ResNet's stages are its layers, other backbones' the last map of each stride.

        LR-ASPP adds the scores of two classifiers; the head is what the one reads that sees the deep map. That is
        rectified, then scaled and resized, so no map exists before: it is its own.
        """
        layers = [info for info in maps if "layer" in info.path]
        found = backbone_roles(layers or {info.stride: info for info in maps}.values())
        if self.takes_all:
            head = "classifier.high_classifier@input"
            return {"classifier": "classifier", "head": head, "head_preact": head, **found}
        return {"classifier": f"classifier.{len(list(self.classifier.children())) - 1}", **found}

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        return resize_to(self.classifier(features if self.takes_all else features["out"]), x.shape[-2:])
