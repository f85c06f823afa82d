"""``pretrained="FILE"``: the library's own classification network in a file, its maps in ours; what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from segkd.errors import UserError
from segkd.models import create
from segkd.training.overrides import override
from segkd.workbench.composing import compose
from segkd.workbench.runs import load_student

SWIN = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), strict_img_size=False)


def scrambled(network: nn.Module) -> nn.Module:
    """The network in eval with parameters and statistics that no initialisation gives."""
    torch.manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.1 + 0.01)
    return network.eval()


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("resnet18", {}),
        ("convnext_atto", {}),
        ("densenet121", {}),
        ("mobilenetv3_small_050", {}),
        ("hrnet_w18_small", {}),
        ("swin_tiny_patch4_window7_224", SWIN),
        ("efficientformer_l1", {}),
        ("resnet18", {"out_indices": (1, 2, 3)}),
        ("tf_efficientnet_lite0", {"out_indices": (1, 2, 3)}),
        ("mobilenetv3_small_050", {"out_indices": (0, 2)}),
    ],
)
def test_timms_own_file(encoder: str, options: dict[str, Any], tmp_path: Path) -> None:
    whole = scrambled(timm.create_model(encoder, **{k: v for k, v in options.items() if k != "out_indices"}))
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    library = timm.create_model(
        encoder,
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / "whole.pth")),
        features_only=True,
        **options,
    )
    network = create("timm", encoder=encoder, num_classes=3, pretrained=tmp_path / "whole.pth", **options)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(network.eval().encoder(x), library.eval()(x), strict=True):  # type: ignore[operator]
            torch.testing.assert_close(ours, theirs)
    config = timm.get_pretrained_cfg(encoder)
    torch.testing.assert_close(network.preprocess.mean, torch.tensor(config.mean))


@pytest.mark.parametrize(
    ("name", "options", "whole"),
    [
        ("torchvision", {"arch": "deeplabv3_resnet50"}, "resnet50"),
        ("torchvision", {"arch": "lraspp_mobilenet_v3_large"}, "mobilenet_v3_large"),
        ("light_fpn", {"backbone": "shufflenet_v2_x0_5"}, "shufflenet_v2_x0_5"),
        ("smp", {"arch": "fpn", "encoder": "resnet18"}, "resnet18"),
        ("smp", {"arch": "fpn", "encoder": "mobilenet_v2"}, "mobilenet_v2"),
        ("smp", {"arch": "unet", "encoder": "densenet121"}, "densenet121"),
        ("smp", {"arch": "deeplabv3", "encoder": "resnet18", "encoder_depth": 4, "decoder_channels": 16}, "resnet18"),
        ("fanet18", {}, "resnet18"),
        ("fanet34", {}, "resnet34"),
        ("swiftnet_rn18", {}, "resnet18"),
        ("swiftnet_rn18_pyramid", {}, "resnet18"),
        ("linknet", {}, "resnet18"),
        ("bisenetv1", {}, "resnet18"),
    ],
)
def test_torchvisions_own_file(name: str, options: dict[str, Any], whole: str, tmp_path: Path) -> None:
    """Every tensor of the file but the classifier's, and of layers beyond the backbone, is in the network."""
    theirs = scrambled(torchvision.models.get_model(whole, weights=None)).state_dict()
    torch.save(theirs, tmp_path / "whole.pth")
    network = create(name, num_classes=3, pretrained=str(tmp_path / "whole.pth"), **options)
    sums = sorted(round(float(v.double().sum()), 4) for v in network.state_dict().values() if v.is_floating_point())
    beyond = ("fc.", "classifier.", "conv5.", *(["layer4."] if "encoder_depth" in options else []))
    for key, value in theirs.items():
        if value.is_floating_point() and not key.startswith(beyond):
            assert round(float(value.double().sum()), 4) in sums, key
    if options:  # the networks of ours have their own, published so
        assert network.preprocess.mean.tolist() == pytest.approx((0.485, 0.456, 0.406))


def test_nothing_is_guessed_of_other_preprocessing(tmp_path: Path) -> None:
    """smp's Xception takes -1..1; that is said on a hub alone."""
    from segmentation_models_pytorch.encoders import get_encoder

    torch.save(get_encoder("xception", weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"does not say its preprocessing.*tu-NAME"):
        create("smp", arch="fpn", encoder="xception", num_classes=3, pretrained=tmp_path / "w.pth")


def test_smp_runs_the_files_encoder(tmp_path: Path) -> None:
    """timm's network under smp's wrapper: equal maps."""
    whole = scrambled(timm.create_model("convnext_atto"))
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    network = create("smp", arch="fpn", encoder="tu-convnext_atto", num_classes=3, pretrained=tmp_path / "whole.pth")
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        deepest = whole.forward_intermediates(x, intermediates_only=True)[-1]
        torch.testing.assert_close(network.eval().encoder(x)[-1], deepest)  # type: ignore[operator]


def save_resnet(path: Path, change: dict[str, torch.Tensor | None]) -> Path:
    """torchvision's ResNet-18 with tensors added, replaced, or (None) taken out."""
    state = {**torchvision.models.resnet18().state_dict(), **change}
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timm", {"encoder": "resnet18"}),
        ("light_fpn", {"backbone": "resnet18"}),
        ("smp", {"arch": "fpn"}),
        ("torchvision", {"arch": "fcn_resnet50"}),
        ("fanet18", {}),
        ("linknet", {}),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    def refused(change: dict[str, torch.Tensor | None]) -> str:
        with pytest.raises(UserError) as caught:
            create(name, num_classes=3, pretrained=save_resnet(tmp_path / "w.pth", change), **options)
        return str(caught.value)

    if name == "torchvision":
        assert "holds no backbone fcn_resnet50: it lacks 'layer1.0.conv3.weight'" in refused({})
        return
    shape = torch.zeros(64, 3, 5, 5)
    assert "conv1.weight is (64, 3, 5, 5) in the file, (64, 3, 7, 7) in" in refused({"conv1.weight": shape})
    missing = refused({"layer1.0.bn1.weight": None, "layer1.0.bn1.wight": torch.zeros(64)})
    assert "it lacks 'layer1.0.bn1.weight' (did you mean 'layer1.0.bn1.wight'?); 1 missing and 1 unknown" in missing
    assert "it also has 'neck.weight'" in refused({"neck.weight": torch.zeros(3)})
    with pytest.raises(UserError, match=r"weights file not found: nowhere\.pth"):
        create(name, num_classes=3, pretrained="nowhere.pth", **options)


def test_counters_may_lack(tmp_path: Path) -> None:
    """Files of 2016 know no BatchNorm counters; those of DataParallel have a prefix."""
    state = torchvision.models.resnet18().state_dict()
    old = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    network = create("timm", encoder="resnet18", num_classes=3, pretrained=tmp_path / "old.pth")
    assert torch.equal(network.encoder.state_dict()["layer4.1.bn2.weight"], state["layer4.1.bn2.weight"])  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["backbone.pth", "True", "false"])
def test_a_config_takes_a_file_or_says_whether_to_download(text: str) -> None:
    cfg: dict[str, Any] = {"model": {"network": {"type": "light_fpn", "pretrained": False}}}
    override(cfg, f"model.network.pretrained={text}")
    wanted = {"backbone.pth": "backbone.pth", "True": True, "false": False}[text]
    assert cfg["model"]["network"]["pretrained"] == wanted
    with pytest.raises(UserError, match="no value of that kind"):
        override(cfg, "model.network.pretrained=3")


def test_a_trained_student_needs_its_backbones_file_no_more(tmp_path: Path) -> None:
    file, weights = save_resnet(tmp_path / "backbone.pth", {}), tmp_path / "student.pth"
    network = {"type": "timm", "encoder": "resnet18", "num_classes": 3, "pretrained": str(file)}
    torch.save(create("timm", encoder="resnet18", num_classes=3, pretrained=file).state_dict(), weights)
    file.unlink()
    cfg = compose(network, data=dict(type="synthetic", size=(64, 96), length=2))
    state = load_student(cfg, weights).state_dict()
    assert all(torch.equal(state[key], value) for key, value in torch.load(weights, weights_only=True).items())
