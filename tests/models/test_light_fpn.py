"""Light backbones under the pyramid decoder: their sizes, the libraries' own maps, any image size, mistakes."""

from __future__ import annotations

import published
import pytest
import timm
import torch
import torchvision
from sampling import sampled
from torch import nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor

from segkd.errors import UserError
from segkd.models import create
from segkd.models.light_fpn import SHUFFLENETS, LightFPN
from segkd.models.timm import PyramidDecoder, TimmModel

#: parameters of the backbone in millions, GMAC of it at 512x1024 (networks as the libraries give them), widths from s4
BACKBONES = {
    "resnet18": (11.177, 18.950, (64, 128, 256, 512)),
    "mobilenetv1_100": (3.207, 5.932, (128, 256, 512, 1024)),
    "mobilenetv2_100": (1.812, 2.920, (24, 32, 96, 320)),
    "mobilenetv3_large_100": (2.972, 2.223, (24, 40, 112, 960)),
    "mobilenetv4_conv_small": (1.262, 1.917, (32, 64, 96, 960)),
    "efficientnet_b0": (3.595, 3.802, (24, 40, 112, 320)),
    "shufflenet_v2_x0_5": (0.143, 0.312, (24, 48, 96, 192)),
    "shufflenet_v2_x1_0": (0.776, 1.260, (24, 116, 232, 464)),
    "poolformer_s12": (11.401, 18.931, (64, 128, 320, 512)),
    "poolformer_m48": (72.703, 120.503, (96, 192, 384, 768)),
    "efficientformer_l1": (11.391, 13.787, (48, 96, 224, 448)),
    "efficientformerv2_s0": (3.246, 6.075, (32, 48, 96, 176)),
    "convnext_tiny": (27.819, 46.548, (96, 192, 384, 768)),
}


def decoder_size(widths: tuple[int, ...], width: int, classes: int, pixels: int) -> tuple[int, int]:
    """Parameters and MACs of laterals, smoothing and classifier at 19 classes, counted by hand."""
    parameters, macs = (width + 1) * classes, width * classes * pixels
    for cin in widths:
        laterals, smoothing = cin * width, 9 * width + width * width
        parameters += laterals + width + smoothing + 4 * width
        macs += (laterals + smoothing) * pixels
        pixels //= 4
    return parameters, macs


@pytest.mark.parametrize("backbone", sampled(BACKBONES, 3))
def test_sizes_are_the_librarys_and_the_decoders(backbone: str) -> None:
    millions, backbone_gmacs, widths = BACKBONES[backbone]
    network = published.on_meta(lambda: LightFPN(19, backbone))
    taps = {info.stride: info.channels for info in network.feature_info[:-2]}  # type: ignore[union-attr,index]
    assert tuple(taps[stride] for stride in (4, 8, 16, 32)) == widths
    parameters, macs = decoder_size(widths, 128, 19, 128 * 256)
    assert sum(p.numel() for p in network.encoder.parameters()) == pytest.approx(millions * 1e6, abs=500)  # type: ignore[union-attr]
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6 + parameters, abs=500)
    assert published.gmacs(network, 512, 1024) == pytest.approx(backbone_gmacs + macs / 1e9, rel=1e-3)


@pytest.mark.parametrize("backbone", ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0"])
def test_shufflenet_is_torchvisions(backbone: str) -> None:
    torch.manual_seed(0)
    library = torchvision.models.get_model(backbone, weights=None).eval()
    encoder = LightFPN(3, backbone).encoder.eval()
    loaded = encoder.load_state_dict(library.state_dict(), strict=False)
    assert not loaded.missing_keys
    assert {key.split(".")[0] for key in loaded.unexpected_keys} == {"conv5", "fc"}
    maps = create_feature_extractor(library, ["maxpool", "stage2", "stage3", "stage4"])
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for got, wanted in zip(encoder(x), maps(x).values(), strict=True):
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("backbone", ["shufflenet_v2_x0_5", "mobilenetv3_small_050", "mobilenetv4_conv_small_035"])
def test_any_size_and_every_parameter(backbone: str) -> None:
    torch.manual_seed(0)
    network = LightFPN(3, backbone, decoder_channels=16)
    for size in ((33, 45), (64, 96)):
        logits = network(torch.randn(2, 3, *size))
        assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("backbone", "blocks"), [("tf_efficientnet_lite0", 5), ("mobilenetv3_large_100", 5), ("efficientnet_b0", 5)]
)
def test_blocks_behind_the_last_map_are_not_kept(backbone: str, blocks: int) -> None:
    network = create("light_fpn", num_classes=3, backbone=backbone, out_indices=(1, 2, 3))
    whole = timm.create_model(backbone)
    used = [*whole.conv_stem.parameters(), *whole.bn1.parameters(), *whole.blocks[:blocks].parameters()]
    assert sum(p.numel() for p in network.encoder.parameters()) == sum(p.numel() for p in used)
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_it_is_the_timm_network_with_a_lighter_decoder() -> None:
    torch.manual_seed(0)
    light, full = LightFPN(3, "mobilenetv2_035"), TimmModel("mobilenetv2_035", num_classes=3)
    assert light.feature_info == full.feature_info
    assert light.encoder.state_dict().keys() == full.encoder.state_dict().keys()
    full.decoder = light.decoder
    full.load_state_dict(light.state_dict())
    x = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        assert torch.equal(light.eval()(x), full.eval()(x))


def test_separable_decoder_against_its_formula() -> None:
    torch.manual_seed(0)
    decoder = PyramidDecoder([3, 5], 4, separable=True).double().eval()
    fine, coarse = (torch.randn(1, c, h, w, dtype=torch.float64) for c, h, w in ((3, 9, 14), (5, 5, 7)))

    def side(i: int, x: torch.Tensor) -> torch.Tensor:
        lateral = decoder.laterals[i]
        return torch.einsum("oi,nihw->nohw", lateral.weight[:, :, 0, 0], x) + lateral.bias.view(1, -1, 1, 1)  # type: ignore[index,operator,union-attr]

    def smooth(i: int, x: torch.Tensor) -> torch.Tensor:
        depthwise, pointwise = decoder.smooth[i]  # type: ignore[misc]
        gain = (1 + 1e-5) ** -0.5
        spread = F.conv2d(x, depthwise[0].weight, padding=1, groups=4) * gain  # type: ignore[has-type]
        return (F.conv2d(spread, pointwise[0].weight) * gain).clamp_min(0)  # type: ignore[has-type]

    out = side(0, fine) + F.interpolate(smooth(1, side(1, coarse)), (9, 14), mode="bilinear")
    torch.testing.assert_close(decoder([fine, coarse]), smooth(0, out))


def test_pretrained_weights_are_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download itself is left out; a failed one is named."""
    asked: list[object] = []
    get_model = torchvision.models.get_model

    def offline(name: str, weights: object) -> nn.Module:
        asked.append(weights)
        return get_model(name, weights=None)

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    LightFPN(3, "shufflenet_v2_x0_5", pretrained=True)
    LightFPN(3, "shufflenet_v2_x0_5")
    assert asked == ["DEFAULT", None]

    def refuse(name: str, weights: object) -> nn.Module:
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models, "get_model", refuse)
    with pytest.raises(UserError, match=r"torchvision's weights of shufflenet_v2_x0_5 \(OSError: no route\)"):
        LightFPN(3, "shufflenet_v2_x0_5", pretrained=True)


def test_the_shufflenets_are_all_of_torchvisions() -> None:
    assert [name for name in torchvision.models.list_models() if name.startswith("shufflenet_v2_")] == SHUFFLENETS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "shufflenet_v2_x1"}, "did you mean .*'shufflenet_v2_x1_0'"),
        ({"backbone": "mobilenetv2_10"}, "did you mean .*'mobilenetv2_100'"),
        ({"backbone": "shufflenet_v2_x1_0", "drop_path_rate": 0.1}, "no option 'drop_path_rate'"),
        ({"backbone": "resnet18", "foo": 1}, "'foo'"),
        ({"backbone": "swin_tiny_patch4_window7_224"}, "strict_img_size=False"),
    ],
)
def test_mistakes(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create("light_fpn", num_classes=3, **arguments)
