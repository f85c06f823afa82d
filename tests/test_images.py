"""A shrunk image has no aliases: what is too fine for it becomes grey, whichever way it is shrunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segkd.deploy.runtimes import Runtime
from segkd.evaluation.inference import with_scales
from segkd.images import resize_image


def stripes(height: int = 120, width: int = 160) -> Tensor:
    """Black and white columns of one pixel each."""
    columns = torch.arange(width) % 2 * 255
    return columns.to(torch.uint8).expand(1, 3, height, width)


def test_fine_stripes_become_grey() -> None:
    small = resize_image(stripes(), (30, 40))
    inside = small[..., 2:-2].float()
    assert inside.std() < 2
    assert abs(float(inside.mean()) - 127.5) < 2


@pytest.mark.parametrize("size", [(30, 40), (41, 67), (119, 20), (60, 300)])
def test_equal_to_pillows_bilinear_filter(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    want = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR), np.int64)
    made = resize_image(torch.from_numpy(image).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    assert np.abs(made - want).max() <= 1  # it rounds between the two directions


def test_larger_and_equal_sizes() -> None:
    image = stripes()
    assert resize_image(image, (120, 160)) is image
    assert resize_image(image, (240, 320)).shape == (1, 3, 240, 320)


class Seen(Runtime):
    """A file for images of 30x40 that keeps what it got."""

    name, num_classes, size, file_size, metadata, device = "seen", 2, (30, 40), 0, {}, torch.device("cpu")

    def _run(self, image: Tensor) -> Tensor:
        self.image = image
        return torch.zeros(len(image), 2, *image.shape[-2:])


@pytest.mark.parametrize("way", ["runtime", "scales"])
def test_every_way_of_shrinking_is_antialiased(way: str) -> None:
    seen = Seen(resize=True)
    predict = seen.predict if way == "runtime" else with_scales(seen.predict, (0.25,))
    assert predict(stripes()).shape == (1, 2, 120, 160)
    assert seen.image[..., 2:-2].float().std() < 2
