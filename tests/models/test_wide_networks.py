"""Networks for images of more than three bands: timm's rule for the weights, and what the further bands do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import adapt_input_conv
from torch import Tensor

from segkd.errors import UserError
from segkd.models import NETWORKS, create
from segkd.models.bands import adapted
from segkd.registry import description

ONE = dict(mean=[0.3], std=[0.2])
#: networks and how many of their convolutions read the image
READERS = {
    "fast_scnn": 1,
    "icnet": 2,  # at two sizes
    "contextnet": 2,
    "ddrnet23_slim": None,
    "light_fpn": None,
}


def noise(bands: int, size: tuple[int, int] = (64, 96)) -> Tensor:
    return torch.randint(0, 256, (1, bands, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [4, 5, 6, 13])
def test_weights_are_adapted_as_by_timm(count: int) -> None:
    weight = torch.randn(8, 3, 3, 3)
    torch.testing.assert_close(adapted(weight, count), adapt_input_conv(count, weight), rtol=0, atol=0)


@pytest.mark.parametrize("name", READERS)
def test_the_first_convolutions_follow(name: str) -> None:
    torch.manual_seed(0)
    rgb = create(name, num_classes=4).eval()
    torch.manual_seed(0)
    wide = NETWORKS.build(dict(type=name, num_classes=4, bands=dict(mean=[0.1, 0.2], std=[0.3, 0.4]))).eval()
    assert (rgb.channels, wide.channels) == (3, 5)
    with torch.no_grad():
        assert wide.predict(noise(5)).shape == (1, 4, 64, 96)
    before, after = rgb.state_dict(), wide.state_dict()
    changed = [key for key, value in after.items() if value.shape != before[key].shape]
    layers = [key for key in changed if not key.startswith("preprocess.")]
    for key in layers:
        torch.testing.assert_close(after[key], adapt_input_conv(5, before[key]))
    assert READERS[name] is None or len(layers) == READERS[name]
    assert layers
    for key in ("mean", "std", "order"):
        torch.testing.assert_close(after[f"preprocess.{key}"][:3], before[f"preprocess.{key}"])


def test_bands_that_repeat_the_colours_change_nothing() -> None:
    """Six bands, the last three being the first ones again: the same maps as of RGB."""
    torch.manual_seed(0)
    rgb = create("fast_scnn", num_classes=4).eval().double()
    own = rgb.preprocess
    torch.manual_seed(0)
    bands = dict(mean=own.mean.tolist(), std=own.std.tolist())
    wide = NETWORKS.build(dict(type="fast_scnn", num_classes=4, bands=bands)).eval().double()
    image = noise(3)
    with torch.no_grad():
        torch.testing.assert_close(wide.predict(image.repeat(1, 2, 1, 1)), rgb.predict(image), rtol=1e-4, atol=1e-5)


def test_constants_of_a_network_of_0_to_255_in_bgr_are_of_its_scale() -> None:
    network = NETWORKS.build(dict(type="icnet", num_classes=4, bands=ONE))
    found = network.preprocess(torch.full((1, 4, 2, 2), 127.5))
    assert network.preprocess.order.tolist() == [2, 1, 0, 3]
    torch.testing.assert_close(found[0, 3], torch.full((2, 2), (0.5 - 0.3) / 0.2))


def test_a_network_that_shows_the_image_to_deeper_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"^CGNet cannot take 4 bands: other layers .*another network$"):
        NETWORKS.build(dict(type="cgnet", num_classes=4, bands=ONE))


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (4, r"bands is dict\(mean="),
        (dict(mean=[0.3]), r"bands is dict\(mean="),
        (dict(mean=[0.3], std=[0.2, 0.1]), "1 means and 2 deviations"),
        (dict(mean=[0.3], std=[0.0]), "above 0"),
        (dict(mean=[], std=[]), "0 means"),
        (dict(mean=["x"], std=[0.1]), "bands.mean"),
    ],
)
def test_bands_that_are_none_are_refused(bands: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        NETWORKS.build(dict(type="fast_scnn", num_classes=4, bands=bands))
    assert "\n" not in str(caught.value)


def test_weights_are_of_all_bands_and_init_is_of_rgb_too(tmp_path: Path) -> None:
    rgb, wide = (NETWORKS.build(dict(type="fast_scnn", num_classes=4, **more)) for more in ({}, dict(bands=ONE)))
    torch.save(rgb.state_dict(), tmp_path / "rgb.pth")
    torch.save(wide.state_dict(), tmp_path / "wide.pth")
    again = NETWORKS.build({**description(wide), "weights": str(tmp_path / "wide.pth")})  # type: ignore[dict-item]
    begun = NETWORKS.build(dict(type="fast_scnn", num_classes=4, bands=ONE, init=str(tmp_path / "rgb.pth")))
    other = NETWORKS.build(dict(type="fast_scnn", num_classes=4, bands=ONE, init=str(tmp_path / "wide.pth")))
    key = next(k for k in wide.state_dict() if k.startswith("learning_to_downsample.0") and k.endswith("weight"))
    torch.testing.assert_close(begun.state_dict()[key], adapt_input_conv(4, rgb.state_dict()[key]))
    assert begun.left_out == other.left_out == []
    for found in (again, other):
        for name, value in wide.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0)
    with pytest.raises(UserError, match="does not fit FastSCNN"):
        NETWORKS.build(dict(type="fast_scnn", num_classes=4, bands=ONE, weights=str(tmp_path / "rgb.pth")))
