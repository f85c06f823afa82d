"""Images go into each network as its authors' code puts them in: order of the channels, scale, mean, deviation."""

from __future__ import annotations

import pytest
import torch

from segkd.models import NETWORKS, create
from segkd.workbench.composing import compose

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ONE = (1.0, 1.0, 1.0)
#: names -> (channels, scale, mean, deviation), as read in the authors' data loaders
LOADERS = {
    ("stdc1", "stdc2", "ddrnet23_slim", "ddrnet23", "pidnet_s", "pidnet_m", "pidnet_l"): ("RGB", 1 / 255, *IMAGENET),
    ("fanet18", "fanet34", "fasterseg", "fasterseg_teacher", "pspnet"): ("RGB", 1 / 255, *IMAGENET),
    ("bisenetv1", "bisenetv2"): ("RGB", 1 / 255, (0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)),
    ("swiftnet_rn18", "swiftnet_rn18_pyramid"): ("RGB", 1, (73.15, 82.90, 72.3), (47.67, 48.49, 47.73)),
    ("erfnet", "enet"): ("RGB", 1 / 255, (0, 0, 0), ONE),
    ("linknet",): ("RGB", 1 / 255, (0.28689, 0.32513, 0.28389), ONE),  # over the training images, as it computes it
    ("cgnet",): ("RGB", 1, (72.39, 82.91, 73.16), ONE),  # blue's mean is taken from red, and red's from blue
    ("dabnet",): ("RGB", 1, (73.16, 82.91, 72.39), ONE),
    ("icnet",): ("BGR", 1, (103.939, 116.779, 123.68), ONE),
}


@pytest.mark.parametrize("name", [name for names in LOADERS for name in names])
def test_as_in_the_authors_loader(name: str) -> None:
    channels, scale, mean, deviation = next(constants for names, constants in LOADERS.items() if name in names)
    pixel = [10.0, 120.0, 240.0]
    want = [
        (scale * x - m) / d for x, m, d in zip(pixel[:: 1 if channels == "RGB" else -1], mean, deviation, strict=True)
    ]
    preprocess = create(name, num_classes=19).preprocess
    got = preprocess(torch.tensor(pixel).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "mean"), [("cgnet", (105.66, 103.33, 99.63)), ("dabnet", (99.63, 103.33, 105.66))])
def test_camvid_has_its_own_mean(name: str, mean: tuple[float, float, float]) -> None:
    """What the authors' code subtracts from red, green and blue there: its mean over train and val, for CGNet reversed.

    DABNet's repository holds it as (105.65775, 103.32983, 99.62540) of blue, green and red.
    """
    network = NETWORKS.build(compose(name, data="camvid")["model"]["network"])
    got = network.preprocess(torch.tensor([10.0, 120.0, 240.0]).view(1, 3, 1, 1)).flatten()
    want = torch.tensor([10.0, 120.0, 240.0]) - torch.tensor(mean)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_linknets_mean() -> None:
    """CamVid's training images, as counted."""
    config = compose("linknet", data="camvid")["model"]["network"]
    assert config["mean"] == pytest.approx((104.954, 108.371, 110.204), abs=5e-3)
    pixel = torch.tensor([10.0, 120.0, 240.0]).view(1, 3, 1, 1)
    got = NETWORKS.build(config).preprocess(pixel).flatten()
    torch.testing.assert_close(got, torch.tensor([10.0 - 104.95, 120.0 - 108.37, 240.0 - 110.2]) / 255)
