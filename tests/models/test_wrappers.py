"""The wrappers against the libraries' own models, and their answers to mistakes."""

from __future__ import annotations

from typing import Any

import published
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from networks import refused_where_torch_fails
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from segkd.errors import UserError
from segkd.models import create
from segkd.models.smp import SmpModel
from segkd.models.timm import PyramidDecoder, TimmModel
from segkd.models.torchvision import TorchvisionModel
from segkd.supervision import AuxHead

#: arguments -> parameters in millions and GMAC at 512x1024, 19 classes, as the libraries' own models were counted
TEACHERS: list[tuple[str, dict[str, Any], float, float]] = [
    ("smp", {"arch": "deeplabv3plus", "encoder": "resnet50"}, 26.682, 73.273),
    ("smp", {"arch": "deeplabv3plus", "encoder": "resnet101"}, 45.674, 112.062),
    ("smp", {"arch": "segformer", "encoder": "mit_b0"}, 3.719, 17.757),
    ("smp", {"arch": "segformer", "encoder": "mit_b1"}, 13.682, 34.818),
    ("smp", {"arch": "segformer", "encoder": "mit_b2"}, 27.361, 129.164),
    ("smp", {"arch": "segformer", "encoder": "mit_b3"}, 47.237, 166.440),
    ("smp", {"arch": "segformer", "encoder": "mit_b4"}, 64.008, 204.817),
    ("smp", {"arch": "segformer", "encoder": "mit_b5"}, 84.608, 239.991),
    ("smp", {"arch": "upernet", "encoder": "tu-convnext_base"}, 97.705, 267.575),
    ("smp", {"arch": "upernet", "encoder": "resnet101"}, 56.281, 191.739),
    # The library has 121.783 M, of which nothing uses the last norm (1,536) and ImageNet's classifier (769,000).
    ("smp", {"arch": "dpt", "encoder": "tu-vit_base_patch16_224", "dynamic_img_size": True}, 121.012, 502.907),
    ("torchvision", {"arch": "lraspp_mobilenet_v3_large"}, 3.221, 3.945),
]
#: with the auxiliary head, which the library counts in its own numbers: parameters, GMAC, its tap and width
TORCHVISION_DEEPLABS = [
    ("deeplabv3_resnet50", 42.003, 346.5, "backbone.layer3", 1024),
    ("deeplabv3_resnet101", 60.995, 501.7, "backbone.layer3", 1024),
    ("deeplabv3_mobilenet_v3_large", 11.029, 19.68, "backbone.4", 40),
]


class OffMeta(TorchFunctionMode):
    """torch.linspace on the CPU also within ``torch.device("meta")``: encoders read their drop rates off it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "cpu"} if func is torch.linspace else {})})


def on_meta(name: str, **arguments: Any) -> nn.Module:
    with torch.device("meta"), OffMeta():
        return create(name, num_classes=19, **arguments).eval()


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


@pytest.mark.parametrize(
    ("arch", "encoder", "smallest", "larger"),
    [
        ("unet", "resnet18", True, False),
        ("unet", "mit_b0", False, False),  # nothing is normalised over the batch at stride 32
        ("manet", "mit_b0", True, False),
        ("fpn", "resnet18", True, False),
        ("linknet", "resnet18", True, False),
        ("unetplusplus", "resnet18", True, False),
        ("deeplabv3plus", "resnet18", True, True),
        ("pan", "resnet18", True, True),
    ],
)
def test_batch_of_one_is_refused_exactly_where_torch_fails(
    arch: str, encoder: str, smallest: bool, larger: bool
) -> None:
    network = SmpModel(arch, encoder, num_classes=3).train()
    assert refused_where_torch_fails(network, (32, 32)) == smallest
    assert refused_where_torch_fails(network, (32, 33)) == larger


def test_batch_of_one_says_what_helps() -> None:
    small = torch.randn(1, 3, 32, 32)
    network = SmpModel("unet", num_classes=3).train()
    with pytest.raises(UserError, match=r"batch size 1 on 32x32: .*batch_size >= 2 .*larger crops, or its BatchNorm"):
        network(small)
    network.encoder.eval()
    assert network(small).shape == (1, 3, 32, 32)
    with pytest.raises(UserError, match=r"batch size 1: .*pooled .*>= 2 per process, or its BatchNorm in eval$"):
        SmpModel("deeplabv3plus", num_classes=3).train()(small)


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments", "millions", "gmacs"), TEACHERS)
def test_sizes_of_the_teachers(name: str, arguments: dict[str, Any], millions: float, gmacs: float) -> None:
    network = on_meta(name, **arguments)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, abs=501)
    assert published.gmacs(network, 512, 1024) == pytest.approx(gmacs, rel=1e-4)
    strides = [info.stride for info in network.feature_info if info.path.startswith(("encoder", "maps", "backbone"))]  # type: ignore[union-attr]
    assert len(strides) >= 4
    assert strides[-1] >= 16


@pytest.mark.parametrize(("arch", "millions", "gmacs", "path", "width"), TORCHVISION_DEEPLABS)
def test_torchvision_deeplab_with_its_auxiliary_head(
    arch: str, millions: float, gmacs: float, path: str, width: int
) -> None:
    """The published training build: network and supervision head, against the library's with aux_loss=True."""
    network = on_meta("torchvision", arch=arch)
    with torch.device("meta"):
        library = torchvision.models.get_model(
            arch, weights=None, weights_backbone=None, num_classes=19, aux_loss=True
        ).eval()
        head = AuxHead(width, 19, middle=width // 4).eval()
    both = nn.ModuleList([network, head])
    assert published.shapes_of(both) == published.shapes_of(library)
    assert sum(p.numel() for p in both.parameters()) == pytest.approx(millions * 1e6, abs=501)
    seen: list[torch.Tensor] = []
    network.get_submodule(path).register_forward_hook(lambda module, args, output: seen.append(output))
    cost = published.gmacs(network, 512, 1024)
    extra = sum(p.numel() for p in head.parameters() if p.dim() == 4) * seen[0].shape[2] * seen[0].shape[3] / 1e9
    assert seen[0].shape[1] == width
    assert cost + extra == pytest.approx(gmacs, rel=1e-3)
    assert cost + extra == pytest.approx(published.gmacs(library, 512, 1024), rel=1e-6)


def test_segformers_decoder_is_as_wide_as_published_unless_told() -> None:
    def widths(encoder: str, **options: Any) -> int:
        network = on_meta("smp", arch="Segformer", encoder=encoder, **options)
        return int(network.segmentation_head[0].in_channels)  # type: ignore[index,union-attr,arg-type]

    assert [widths("mit_b1"), widths("mit_b2")] == [256, 768]
    assert widths("mit_b2", decoder_segmentation_channels=256) == 256
    assert widths("resnet18") == 256


def test_maps_made_outside_modules_can_be_tapped() -> None:
    """smp's mit encoders reshape tokens into maps in their own forward: the taps see exactly what the decoder gets."""
    torch.manual_seed(0)
    network = SmpModel("segformer", "mit_b0", num_classes=3).eval()
    taps = {info.path: (info.channels, info.stride) for info in network.feature_info}
    assert list(taps)[:4] == ["maps.2", "maps.3", "maps.4", "maps.5"]
    assert list(taps.values())[:4] == [(32, 4), (64, 8), (160, 16), (256, 32)]
    assert not any(key.startswith("maps") for key in network.state_dict())
    seen: list[torch.Tensor] = []
    network.maps[3].register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        network(x)
        assert torch.equal(seen[0], network.encoder(x)[3])


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
