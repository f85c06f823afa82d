"""What the tests of teachers share: library models with tensors that all differ, and an image of odd size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SIZE = (97, 131)


def stirred(module: nn.Module, seed: int = 0) -> Any:
    """The module in eval, its BatchNorm statistics and biases no longer those that every network begins with."""
    torch.manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            child.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr]
            nn.init.uniform_(child.weight, 0.8, 1.2)
            nn.init.normal_(child.bias, 0, 0.1)
    return module.eval()


def image(size: tuple[int, int] = SIZE, batch: int = 1) -> Tensor:
    """uint8 noise (batch, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)


def normalised(x: Tensor) -> Tensor:
    """An image as ImageNet's networks want it, written out."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x.float() / 255 - mean) / std


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """Logits equal to 1e-4 of the largest (or of 1), and no constants."""
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))
