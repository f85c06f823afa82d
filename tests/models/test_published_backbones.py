"""EfficientNet-Lite as published: the file's names under timm's, its preprocessing, and what it sees on photographs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import timm
import torch
from published import random_backbone

from segkd.errors import UserError
from segkd.models import create
from segkd.models.backbones import read_backbone, save_backbone
from segkd.models.published_backbones import BACKBONES

#: the folder of the published files: the environment's, or beside the checkout
FOLDER = Path(os.environ.get("SEGKD_BACKBONES", Path(__file__).resolve().parents[3] / "shared/data/weights"))
STREET = {"traffic light", "street sign", "cab", "car mirror", "streetcar", "trolleybus", "minivan", "trailer truck"}


@pytest.mark.parametrize("name", BACKBONES)
def test_names_are_timms_in_timms_order(name: str, tmp_path: Path) -> None:
    """The table of names against what was found first: order and shapes of both networks are the same."""
    wanted = random_backbone(name, tmp_path / "theirs.pth")
    loaded = BACKBONES[name].load(tmp_path / "theirs.pth")
    assert list(loaded.tensors) == list(wanted)
    assert all(torch.equal(loaded.tensors[key], value) for key, value in wanted.items())
    image = torch.randint(0, 256, (1, 3, 5, 7), dtype=torch.uint8)
    assert loaded.preprocess is not None
    torch.testing.assert_close(loaded.preprocess(image), (image.float() - 127) / 128)


def test_wrappers_and_timm_open_the_imported_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, file = "efficientnet_lite0_imagenet", tmp_path / "lite0.pth"
    random_backbone(name, tmp_path / "theirs.pth")
    save_backbone(BACKBONES[name].load(tmp_path / "theirs.pth"), file)
    library = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(file)).eval()
    networks = [
        create("light_fpn", num_classes=3, backbone="tf_efficientnet_lite0", pretrained=file),
        create("timm", num_classes=3, encoder="tf_efficientnet_lite0", pretrained=str(file)),
        create("smp", num_classes=3, arch="fpn", encoder="tu-tf_efficientnet_lite0", pretrained=file),
    ]
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        deepest = library.forward_intermediates(x, intermediates_only=True)[-1]
        for network in networks:
            assert network.preprocess.mean.tolist() == [127, 127, 127]
            assert (network.preprocess.std.tolist(), network.preprocess.scale) == ([128, 128, 128], 1)
            torch.testing.assert_close(network.eval().encoder(x)[-1], deepest)  # type: ignore[operator]


def test_the_same_names_are_not_the_same_network(tmp_path: Path) -> None:
    """timm's efficientnet_lite0 has equal tensors, and pads at both sides."""
    name, file = "efficientnet_lite0_imagenet", tmp_path / "lite0.pth"
    random_backbone(name, tmp_path / "theirs.pth")
    save_backbone(BACKBONES[name].load(tmp_path / "theirs.pth"), file)
    with pytest.raises(UserError, match="holds tf_efficientnet_lite0, not efficientnet_lite0"):
        create("light_fpn", num_classes=3, backbone="efficientnet_lite0", pretrained=file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    random_backbone("efficientnet_lite1_imagenet", tmp_path / "lite1.pth")
    with pytest.raises(UserError, match="is not the published tf_efficientnet_lite0"):
        BACKBONES["efficientnet_lite0_imagenet"].load(tmp_path / "lite1.pth")
    with pytest.raises(UserError, match=r"is not the published tf_efficientnet_lite2: .* is \("):
        BACKBONES["efficientnet_lite2_imagenet"].load(tmp_path / "lite1.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"has not the names .*'conv1.weight'"):
        BACKBONES["efficientnet_lite0_imagenet"].load(tmp_path / "other.pth")


def test_published_lite2_sees_streets(camvid_root: Path, tmp_path: Path) -> None:
    """Of 24 images of CamVid, most have something of a street among the five likeliest of 1000 classes."""
    from PIL import Image
    from timm.data import ImageNetInfo
    from torchvision.transforms.functional import pil_to_tensor

    theirs = FOLDER / "efficientnet-lite2-9656183e.pth"
    if not theirs.is_file():
        pytest.skip("the published EfficientNet-Lite2 is neither in SEGKD_BACKBONES nor in ../shared/data/weights")
    file = tmp_path / "lite2.pth"
    save_backbone(BACKBONES["efficientnet_lite2_imagenet"].load(theirs), file)
    network = timm.create_model("tf_efficientnet_lite2", checkpoint_path=str(file)).eval()
    preprocess, info, right = read_backbone(file).preprocess, ImageNetInfo(), 0
    assert preprocess is not None
    paths = sorted((camvid_root / "images").rglob("*.jpg"))[::30]
    for path in paths:
        image = pil_to_tensor(Image.open(path).convert("RGB").resize((260, 260), Image.Resampling.BICUBIC))
        with torch.no_grad():
            five = network(preprocess(image[None]))[0].topk(5).indices.tolist()
        right += bool(STREET & {info.index_to_description(i).split(",")[0] for i in five})
    assert right > 0.8 * len(paths)
