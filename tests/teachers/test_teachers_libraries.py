"""Teachers of smp, torchvision and timm, against the models that the libraries made themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from teachers_kit import assert_equal, image, normalised, stirred
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import create
from segkd.teachers import load_teacher


def of_library(model: Any, x: Tensor) -> Tensor:
    """smp's logits of an image that it takes only when grown to a multiple: its edge repeated, the logits cut."""
    height, width = x.shape[-2:]
    multiple = model.encoder.output_stride
    x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    with torch.no_grad():
        out = model(x)
    return (out[0] if isinstance(out, tuple) else out)[..., :height, :width]


@pytest.mark.parametrize(
    ("arch", "encoder", "options"),
    [
        ("fpn", "resnet18", {"aux_params": {"classes": 4}}),
        ("unet", "tu-mobilenetv3_small_050", {}),
        ("segformer", "mit_b2", {}),  # the library's decoder is narrower than the published one
        ("pspnet", "mobilenet_v2", {}),  # it keeps encoder stages that it never runs
    ],
)
def test_smp_state_dict(arch: str, encoder: str, options: dict[str, Any], tmp_path: Path) -> None:
    library = stirred(smp.create_model(arch, encoder, encoder_weights=None, classes=7, **options))
    torch.save({"model": nn.DataParallel(library).state_dict()}, tmp_path / "w.pth")
    teacher = load_teacher(f"smp:{arch}/{encoder}@{tmp_path / 'w.pth'}", num_classes=7)
    with torch.no_grad():
        assert_equal(teacher.predict(image()), of_library(library, normalised(image())))
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize(
    ("arch", "encoder", "options"),
    [
        ("Unet", "resnet18", {"decoder_channels": (64, 32, 32, 16, 8), "activation": "softmax2d"}),
        ("DeepLabV3Plus", "mobilenet_v2", {"encoder_output_stride": 8, "aux_params": {"classes": 2}}),
    ],
)
def test_smp_folder(arch: str, encoder: str, options: dict[str, Any], tmp_path: Path) -> None:
    library = stirred(smp.create_model(arch, encoder, encoder_weights=None, classes=5, **options))
    library.save_pretrained(tmp_path / "model")
    library.segmentation_head[-1] = nn.Identity()  # logits, before the activation
    for source in (tmp_path / "model", f"smp:{tmp_path / 'model'}", tmp_path / "model" / "model.safetensors"):
        teacher = load_teacher(source)
        with torch.no_grad():
            assert_equal(teacher.predict(image()), of_library(library, normalised(image())))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder of save_pretrained whose config is then made to say other things."""
    smp.create_model("fpn", "tu-mobilenetv3_large_100", encoder_weights=None, classes=5).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())

    def edited(**values: Any) -> Path:
        (tmp_path / "config.json").write_text(json.dumps({**config, **values}))
        return tmp_path

    return edited


def test_smp_folder_names_the_preprocessing_of_timms_encoder(folder: Callable[..., Path]) -> None:
    source = folder(encoder_name="tu-mobilenetv3_large_100.miil_in21k", encoder_weights="imagenet")
    params = smp.encoders.get_preprocessing_params("tu-mobilenetv3_large_100.miil_in21k")
    assert params["mean"] == [0, 0, 0]
    torch.testing.assert_close(load_teacher(source).preprocess(image()), image().float() / 255)
    stated = load_teacher(source, preprocess=dict(mean=(0, 0, 0), std=(1, 1, 1), scale=1, channels="BGR"))
    torch.testing.assert_close(stated.preprocess(image()), image().flip(1).float())
    assert load_teacher(folder(encoder_weights=None)).preprocess.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_smp_folder_names_the_preprocessing_of_the_librarys_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def absent(*names: str, **place: Any) -> str:
        assert place["local_files_only"]
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    for encoder in ("resnet18", "xception"):
        smp.create_model("fpn", encoder, encoder_weights=None, classes=5).save_pretrained(tmp_path / encoder)
        config = (tmp_path / encoder / "config.json").read_text()
        (tmp_path / encoder / "config.json").write_text(
            config.replace('"encoder_weights": null', '"encoder_weights": "imagenet"')
        )
    torch.testing.assert_close(load_teacher(tmp_path / "resnet18").preprocess(image()), normalised(image()))
    with pytest.raises(UserError, match=r"of xception's 'imagenet' weights is not on this machine: give preprocess="):
        load_teacher(tmp_path / "xception")
    (tmp_path / "said.json").write_text(json.dumps(dict(mean=[9, 8, 7], std=[1, 2, 4], input_range=[0, 255])))
    asked: list[Any] = []
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        lambda *names, **place: asked.append((names, place)) or tmp_path / "said.json",
    )
    teacher = load_teacher(tmp_path / "xception", download=True)
    expected = (image().float() - torch.tensor([9, 8, 7]).view(1, 3, 1, 1)) / torch.tensor([1, 2, 4]).view(1, 3, 1, 1)
    torch.testing.assert_close(teacher.preprocess(image()), expected)
    ((names, place),) = asked
    assert names == ("smp-hub/xception.imagenet", "config.json")
    assert not place["local_files_only"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"in_channels": 4}, "takes images of 4 channels"),
        ({"_model_class": "FPNN"}, r"no architecture 'FPNN' .*did you mean 'fpn'"),
        ({"encoder_name": None}, "names no encoder, or no number of classes"),
        ({"decoder_dropouts": 0.2, "encoder_name": "resnet18"}, "did you mean 'decoder_dropout'"),
        ({"decoder_pyramid_channels": 64}, r"does not fit SmpModel: decoder.* in the file"),
    ],
)
def test_smp_folders_that_are_refused(values: dict[str, Any], message: str, folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(folder(**values))


def test_smp_folder_without_weights(folder: Callable[..., Path]) -> None:
    (folder() / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no weights: none of model\.safetensors"):
        load_teacher(folder())


def test_smp_hub_is_asked_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    with pytest.raises(UserError, match="smp-hub/some-model is on a hub and nothing is downloaded unasked"):
        load_teacher("smp-hub/some-model")
    library = stirred(smp.create_model("fpn", "resnet18", encoder_weights=None, classes=5))
    library.save_pretrained(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: asked.append(name) or str(tmp_path))
    for source in ("smp-hub/some-model", "smp:smp-hub/some-model"):
        teacher = load_teacher(source, download=True)
        with torch.no_grad():
            assert_equal(teacher.predict(image()), of_library(library, normalised(image())))
    assert asked == ["smp-hub/some-model"] * 2

    def fails(name: str) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(UserError, match=r"cannot fetch smp-hub/some-model \(ConnectionError: no network\)$"):
        load_teacher("smp-hub/some-model", download=True)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvision_file_with_its_auxiliary_head(name: str, tmp_path: Path) -> None:
    more = {} if name.startswith("lraspp") else {"aux_loss": True}
    library = stirred(torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=6, **more))
    torch.save(library.state_dict(), tmp_path / "w.pth")
    assert any(key.startswith("aux_classifier.") for key in library.state_dict()) == bool(more)
    teacher = load_teacher(f"torchvision:{name}@{tmp_path / 'w.pth'}")
    with torch.no_grad():
        assert_equal(teacher.predict(image()), library(normalised(image()))["out"])


def test_timm_file(tmp_path: Path) -> None:
    model = stirred(create("timm", encoder="resnet18", num_classes=4, decoder_channels=24))
    model.preprocess.mean.add_(0.1)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    teacher = load_teacher(f"timm:resnet18@{tmp_path / 'w.pth'}")
    with torch.no_grad():
        assert_equal(teacher.predict(image()), model.predict(image()))
    library = timm.create_model("resnet18", features_only=True)
    library.load_state_dict(teacher.encoder.state_dict())  # type: ignore[union-attr]
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "classifier.pth")
    with pytest.raises(UserError, match="holds no decoder: timm's own files classify images"):
        load_teacher(f"timm:resnet18@{tmp_path / 'classifier.pth'}")


def test_what_does_not_fit_says_what_would(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save(smp.create_model("fpn", "resnet34", encoder_weights=None, classes=5).state_dict(), file)
    with pytest.raises(UserError, match=rf"does not say what it is.*; it fits smp:fpn/resnet34@{file}$"):
        load_teacher(file)
    with pytest.raises(UserError, match=rf"does not fit SmpModel: .*; it fits smp:fpn/resnet34@{file}$"):
        load_teacher(f"smp:unet/resnet34@{file}")
    with pytest.raises(UserError, match=r"holds no network of that kind; it fits smp:fpn/resnet34@"):
        load_teacher(f"torchvision:fcn_resnet50@{file}")
    with pytest.raises(UserError, match=r"gives 5 classes, not 6; say by classes= "):
        load_teacher(f"smp:fpn/resnet34@{file}", num_classes=6)
    for name, message in (("fpnn/resnet34", "did you mean 'fpn'"), ("fpn/resnet35", "did you mean .*'resnet34'")):
        with pytest.raises(UserError, match=message):
            load_teacher(f"smp:{name}@{file}")
    for name in ("fpn", ""):
        with pytest.raises(UserError, match="smp:ARCH/ENCODER@FILE"):
            load_teacher(f"smp:{name}@{file}")
    with pytest.raises(UserError, match=r"smp:fpn/resnet34 has no weights: name their file, smp:fpn/resnet34@FILE"):
        load_teacher("smp:fpn/resnet34")
    other = smp.create_model("fpn", "resnet34", encoder_weights=None, classes=5, decoder_pyramid_channels=128)
    torch.save(other.state_dict(), file)
    with pytest.raises(
        UserError, match=r"does not fit SmpModel: .*; its names are those of smp:fpn/resnet34, made with"
    ):
        load_teacher(f"smp:fpn/resnet34@{file}")
    torch.save(create("fast_scnn", num_classes=5).state_dict(), file)
    with pytest.raises(UserError, match=r"it fits segkd:fast_scnn@"):
        load_teacher(file)
    library = torchvision.models.get_model("fcn_resnet50", weights=None, weights_backbone=None, aux_loss=True)
    torch.save(library.state_dict(), file)
    with pytest.raises(UserError, match=r"it fits torchvision:fcn_resnet50@"):
        load_teacher(file)
    torch.save(smp.create_model("fpn", "tu-resnet18", encoder_weights=None).state_dict(), file)
    with pytest.raises(UserError, match="a model of smp with an encoder of timm: smp:ARCH/tu-NAME@"):
        load_teacher(file)
    torch.save(timm.create_model("resnet18").state_dict(), file)
    with pytest.raises(UserError, match="it looks like a backbone with a classifier of images"):
        load_teacher(file)
