"""The wrappers against the libraries' own models, and their answers to mistakes."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import create
from segkd.models.base import norms_after_global_pooling
from segkd.models.smp import SmpModel
from segkd.models.timm import PyramidDecoder, TimmModel
from segkd.models.torchvision import TorchvisionModel


def same_weights(source: nn.Module, *parts: str, into: nn.Module) -> None:
    for part in parts:
        into.get_submodule(part).load_state_dict(source.get_submodule(part).state_dict(), strict=True)


@pytest.mark.parametrize("arch", ["unet", "deeplabv3plus"])
def test_smp_equals_the_library(arch: str) -> None:
    torch.manual_seed(0)
    library = smp.create_model(arch, "resnet18", encoder_weights=None, classes=7).eval()
    ours = SmpModel(arch, "resnet18", num_classes=7).eval()
    same_weights(library, "encoder", "decoder", "segmentation_head", into=ours)
    x = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        torch.testing.assert_close(ours(x[..., :32, :64]), library(x[..., :32, :64]))
        padded = torch.cat([x, x[..., -1:, :].expand(1, 3, 14, 70)], dim=2)
        padded = torch.cat([padded, padded[..., -1:].expand(1, 3, 64, 26)], dim=3)
        wanted = library(padded)[..., :50, :70]
        if arch != "deeplabv3plus":  # which asks for multiples of 16 alone
            torch.testing.assert_close(ours(x), wanted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_smp_architecture_takes_camvid() -> None:
    for arch in sorted(set(smp.MODEL_ARCHITECTURES_MAPPING) - {"dpt"}):
        network = SmpModel(arch, "resnet18", num_classes=3).eval()
        with torch.no_grad():
            assert network(torch.randn(1, 3, 90, 120)).shape == (1, 3, 90, 120), arch


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smp_vision_transformer() -> None:
    network = SmpModel(
        "dpt", "tu-vit_tiny_patch16_224", num_classes=3, dynamic_img_size=True, decoder_fusion_channels=32
    )
    logits = network(torch.randn(2, 3, 90, 120))
    assert logits.shape == (2, 3, 90, 120)
    logits.mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_stages_beyond_the_depth_are_dropped() -> None:
    """smp's PSPNet runs MobileNetV2 up to its layer 13 and would keep 14 to 18, three quarters of its parameters."""
    network = SmpModel("pspnet", "mobilenet_v2", num_classes=3)
    layers = network.encoder.features
    assert all(isinstance(layers[i], nn.Identity) == (i >= 14) for i in range(19))  # type: ignore[index]
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("arch", ["unet", "deeplabv3plus", "pan"])
def test_batch_of_one_is_refused_exactly_where_torch_fails(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = SmpModel(arch, "resnet18", num_classes=3).train()
    x = torch.randn(1, 3, 128, 128)
    refused = any(True for _ in norms_after_global_pooling(network))
    if refused:
        with pytest.raises(UserError, match="SmpModel cannot train with batch size 1"):
            network(x)
    monkeypatch.setattr("segkd.models.smp.refuse_batch_of_one", lambda network, x: None)
    if refused:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network(x)
    else:
        assert network(x).shape == (1, 3, 128, 128)


@pytest.mark.parametrize("arch", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvision_equals_the_library(arch: str) -> None:
    torch.manual_seed(0)
    library = torchvision.models.get_model(arch, weights=None, weights_backbone=None, num_classes=7).eval()
    ours = TorchvisionModel(arch, num_classes=7).eval()
    same_weights(library, "backbone", "classifier", into=ours)
    x = torch.randn(1, 3, 75, 100)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), library(x)["out"])
    assert not any("aux" in name for name, _ in ours.named_parameters())


def test_pyramid_decoder_against_its_formula() -> None:
    torch.manual_seed(0)
    decoder = PyramidDecoder([3, 5, 7], 4).double().eval()
    maps = [torch.randn(1, c, h, w, dtype=torch.float64) for c, h, w in ((3, 9, 14), (5, 5, 7), (7, 3, 4))]

    def smooth(i: int, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, decoder.smooth[i][0].weight, padding=1).div((1 + 1e-5) ** 0.5).clamp_min(0)  # type: ignore[index]

    def side(i: int) -> torch.Tensor:
        lateral = decoder.laterals[i]
        return torch.einsum("oi,nihw->nohw", lateral.weight[:, :, 0, 0], maps[i]) + lateral.bias.view(1, -1, 1, 1)  # type: ignore[index,operator,union-attr]

    out = smooth(2, side(2))
    out = smooth(1, side(1) + F.interpolate(out, (5, 7), mode="bilinear"))
    out = smooth(0, side(0) + F.interpolate(out, (9, 14), mode="bilinear"))
    torch.testing.assert_close(decoder(maps), out)


def test_timm_feeds_every_stride_from_4() -> None:
    network = TimmModel("resnet18", num_classes=3, decoder_channels=16)
    assert [lateral.in_channels for lateral in network.decoder.laterals] == [64, 128, 256, 512]
    paths = {info.path: (info.channels, info.stride) for info in network.feature_info}
    assert paths["encoder.layer1"] == (64, 4)
    assert paths["encoder.layer4"] == (512, 32)
    assert paths["classifier"] == (3, 4)


def test_channels_last_encoder_is_permuted() -> None:
    options = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), strict_img_size=False)
    network = TimmModel("swin_tiny_patch4_window7_224", num_classes=3, **options).eval()
    library = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, **options).eval()
    library.load_state_dict(network.encoder.state_dict())
    seen: list[torch.Tensor] = []
    network.channels_first[1].register_forward_hook(lambda m, a, out: seen.append(out))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        network(x)
        torch.testing.assert_close(seen[0], library(x)[1].permute(0, 3, 1, 2))


def test_pretrained_preprocessing_is_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """These weights were trained on 0..1 without normalisation; the download itself is left out."""
    create_model = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **o: create_model(name, pretrained=False, **o))
    network = TimmModel("mobilenetv3_large_100.miil_in21k", num_classes=3, pretrained=True)
    assert network.preprocess.mean.tolist() == [0.0, 0.0, 0.0]
    assert network.preprocess.std.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("smp", {"arch": "unett"}, "no architecture 'unett'; did you mean 'unet'"),
        ("smp", {"arch": "unet", "encoder": "resnet19"}, "no encoder 'resnet19'; did you mean 'resnet18'"),
        ("smp", {"arch": "unet", "encoder": "tu-resnt18"}, "no encoder 'resnt18'; did you mean 'resnet18'"),
        ("smp", {"arch": "unet", "encoder_weights": None}, "it is called 'pretrained'"),
        ("smp", {"arch": "unet", "activation": "softmax"}, "plain logits"),
        ("smp", {"arch": "unet", "decoder_chanels": [1]}, "did you mean 'decoder_channels'"),
        ("smp", {"arch": "unet", "decoder_channels": [8]}, "smp cannot build unet"),
        ("timm", {"encoder": "convnext_ato"}, "did you mean 'convnext_atto'"),
        ("timm", {"encoder": "resnet18", "foo": 1}, "'foo'"),
        ("timm", {"encoder": "swin_tiny_patch4_window7_224"}, "strict_img_size=False"),
        ("torchvision", {"arch": "lraspp_mobilenet"}, "did you mean 'lraspp_mobilenet_v3_large'"),
        ("torchvision", {"arch": "fcn_resnet50", "aux_loss": True}, "no argument 'aux_loss'"),
    ],
)
def test_mistakes(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create(name, num_classes=3, **arguments)


def test_encoder_of_one_size_says_so() -> None:
    options = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), img_size=(64, 96))
    network = TimmModel("swin_tiny_patch4_window7_224", num_classes=3, **options).eval()
    assert network(torch.randn(1, 3, 60, 90)).shape == (1, 3, 60, 90)
    with pytest.raises(UserError, match="64x96 alone and got 128x128"):
        network(torch.randn(1, 3, 128, 128))
