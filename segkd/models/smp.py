"""Any segmentation-models-pytorch model as a segkd network (https://github.com/qubvel-org/segmentation_models.pytorch)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.backbones import BackboneFile, given_file, load_backbone
from segkd.models.base import NETWORKS, Network, Preprocess, load_weights, resize_to
from segkd.models.timm import encoder_preprocess as timm_preprocess
from segkd.models.timm import names_of
from segkd.models.wrapping import (
    backbone_roles,
    check_size,
    describe,
    drop_idle,
    fetch_error,
    fixed_size,
    pad_to_multiple,
    paths_of,
    probe,
    size_error,
)

OURS = {"classes": "num_classes", "encoder_name": "encoder", "encoder_weights": "pretrained"}
# PAN's feature pyramid halves the stride-16 map three times more.
LEAST = {"pan": 128}
#: encoders whose published weights were not made with ImageNet's mean and std
OTHERWISE = ("inception", "xception", "dpn", "timm-tf_efficientnet_lite")
FIXED = ("in_channels", "activation", "aux_params")
#: SegFormer-B2 to B5 were published with a wider decoder than B0 and B1, whose width is the library's for all
WIDE_SEGFORMERS = ("mit_b2", "mit_b3", "mit_b4", "mit_b5")


def published_options(arch: str, encoder: str) -> dict[str, Any]:
    """Options by which the library's default becomes the published network (Xie et al. 2021, arXiv:2105.15203)."""
    if arch.lower() == "segformer" and encoder in WIDE_SEGFORMERS:
        return {"decoder_segmentation_channels": 768}
    return {}


def architectures() -> dict[str, type[nn.Module]]:
    """The library's models by their names in lower case (imported here: that takes seconds)."""
    import segmentation_models_pytorch as smp

    return dict(smp.MODEL_ARCHITECTURES_MAPPING)


def check_names(arch: str, encoder: str) -> None:
    """Refuse names that the library does not know; ``tu-NAME`` is a timm encoder."""
    import segmentation_models_pytorch as smp
    import timm

    if arch.lower() not in architectures():
        raise UserError(f"smp has no architecture {arch!r}; {nearest(arch.lower(), architectures())}")
    known = smp.encoders.get_encoder_names()
    if encoder.startswith("tu-"):
        name, known = encoder[3:].split(".")[0], timm.list_models()
        if not timm.is_model(name):
            raise UserError(f"timm has no encoder {name!r}; {nearest(name, known)}")
    elif encoder not in known:
        raise UserError(f"smp has no encoder {encoder!r}; {nearest(encoder, known)} (timm's are called 'tu-NAME')")


def check_options(arch: str, encoder: str, options: dict[str, Any]) -> None:
    """Refuse options that segkd sets itself, and misspelt ones: the library would ignore these without a word."""
    taken = inspect.signature(architectures()[arch.lower()].__init__).parameters
    known = set(taken) - {"self", "kwargs", *OURS, *FIXED}
    for key in options:
        if key in OURS:
            raise UserError(f"SmpModel has no argument {key!r}: it is called {OURS[key]!r}")
        if key in FIXED:
            raise UserError(f"SmpModel has no argument {key!r}: images have 3 channels and the output is plain logits")
        if key not in known and not encoder.startswith("tu-"):
            raise UserError(f"smp's {arch} has no option {key!r}; {nearest(key, known)}")


def build(arch: str, encoder: str, num_classes: int, pretrained: bool | BackboneFile, options: dict[str, Any]) -> Any:
    """The library's model; its complaints about options become a UserError."""
    weights = "imagenet" if pretrained is True else None
    try:
        model: Any = architectures()[arch.lower()](
            encoder_name=encoder, encoder_weights=weights, in_channels=3, classes=num_classes, **options
        )
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise UserError(f"smp cannot build {arch} with encoder {encoder} and {options}: {error}") from error
    except Exception as error:
        if pretrained is not True:
            raise
        raise fetch_error(f"smp's weights of encoder {encoder}", error) from error
    if isinstance(pretrained, BackboneFile):
        name = encoder.removeprefix("tu-")
        load_backbone(model.encoder, pretrained, name, names_of(name, {}) if name != encoder else ())
    return model


def maps_of(features: Any) -> list[Tensor]:
    """The maps among what an encoder returns: DPT's gives (maps, prefix tokens)."""
    return list(features[0] if isinstance(features, tuple) else features)


def encoder_preprocess(encoder: str, pretrained: bool | BackboneFile) -> Preprocess:
    """What the encoder's pretrained weights were trained with; ImageNet's mean and std without them.

    A file that does not say it is taken for timm's own, or of smp's encoders for one that ImageNet's mean and std suit:
    smp's word on that is on a hub.
    """
    if not pretrained:
        return Preprocess()
    if isinstance(pretrained, BackboneFile):
        if pretrained.preprocess is None and encoder.startswith(OTHERWISE):
            raise UserError(
                f"{pretrained.path} does not say its preprocessing, and weights of {encoder} were made with another "
                "than ImageNet's mean and std; take timm's encoder (tu-NAME)"
            )
        return pretrained.preprocess or (
            timm_preprocess(encoder[3:], True) if encoder.startswith("tu-") else Preprocess()
        )
    import segmentation_models_pytorch as smp

    params = smp.encoders.get_preprocessing_params(encoder)
    scale = 1 / 255 if max(params["input_range"]) == 1 else 1.0
    return Preprocess(params["mean"], params["std"], scale, params["input_space"])


@NETWORKS.register("smp")
class SmpModel(Network):
    """A model of segmentation-models-pytorch: ``encoder``, ``decoder`` and ``segmentation_head`` under those names.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W): the image is padded to the multiple that the
    encoder demands and the logits are cropped.

    Args:
        arch: "unet", "deeplabv3plus", "fpn", "segformer", ...
        encoder: "resnet18", "mit_b0", "tu-convnext_tiny", ...
        num_classes: number of classes.
        weights: local file of this network's state dict, loaded last.
        pretrained: True downloads the library's ImageNet weights of the encoder, and nothing is downloaded otherwise; a
            file holds those of the whole classification network (timm's for "tu-NAME"), or is one of
            ``segkd import-weights``, which brings its preprocessing along.
        options: passed on to the library (``decoder_channels=...``). SegFormer's decoder is as wide as published
            (768 from B2 on) unless ``decoder_segmentation_channels`` says otherwise.
    """

    def __init__(
        self,
        arch: str,
        encoder: str = "resnet18",
        *,
        num_classes: int,
        weights: str | Path | None = None,
        pretrained: bool | str | Path = False,
        **options: Any,
    ) -> None:
        check_names(arch, encoder)
        check_options(arch, encoder, options)
        options = {**published_options(arch, encoder), **options}
        source = given_file(pretrained) or bool(pretrained)
        model = build(arch, encoder, num_classes, source, options)
        super().__init__(num_classes, encoder_preprocess(encoder, source))
        self.encoder: nn.Module = model.encoder
        self.decoder: nn.Module = model.decoder
        self.segmentation_head: nn.Module = model.segmentation_head
        # DPT halves a vision transformer's one map once more.
        self.multiple = int(model.encoder.output_stride) * (2 if arch.lower() == "dpt" else 1)
        self.least = LEAST.get(arch.lower(), 0)
        #: where taps can read maps that the library makes outside its modules (Swin, ViT); empty for other encoders
        self.maps = nn.ModuleList()
        self.fixed_size: tuple[int, int] | None = None
        self._describe(arch, encoder, options)
        self.fixed_size = fixed_size(self, options)
        if weights is not None:
            load_weights(self, weights)

    def _describe(self, arch: str, encoder: str, options: dict[str, Any]) -> None:
        """Find out the taps by running the model once; drop stages beyond the asked depth."""
        size = options.get("img_size", max(64, self.least))
        height, width = (size, size) if isinstance(size, int) else size
        try:
            outputs = probe(self, (height, width))
        except (AssertionError, RuntimeError) as error:
            raise size_error(f"smp's encoder {encoder}", (height, width), error) from error
        drop_idle(self.encoder, outputs, "encoder")
        maps = maps_of(outputs["encoder"][0])
        stages = paths_of(outputs, maps, "encoder")
        if not stages:
            self.maps.extend(nn.Identity() for _ in maps)
            outputs = probe(self, (height, width))
            stages = [f"maps.{i}" for i, m in enumerate(maps) if m.shape[1] and m.shape[-2] < height]
        head = "segmentation_head.head" if arch.lower() == "dpt" else "segmentation_head.0"
        self.feature_info = describe(outputs, [*stages, "decoder", head], height)
        classifier = f"{head}.4" if arch.lower() == "dpt" else head
        self.roles = {"classifier": classifier, **backbone_roles(describe(outputs, stages, height))}

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, self.multiple, self.least)
        check_size(padded, self.fixed_size)
        features = self.encoder(padded)
        maps, *tokens = features if isinstance(features, tuple) else (features,)
        if len(self.maps):
            maps = [tap(m) for tap, m in zip(self.maps, maps, strict=True)]
        decoded = self.decoder(maps, *tokens)
        logits: Tensor = resize_to(self.segmentation_head(decoded), padded.shape[-2:])
        return logits[..., :height, :width]
