"""The networks that the contract's tests build, and what the last full run found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segkd.deploy.onnx import random_images
from segkd.errors import UserError
from segkd.models import Network, create
from segkd.models.catalogue import Entry, catalogue

CLASSES = 11
RESULTS = Path(__file__).parents[1] / "full" / "networks.json"

TINY_SWIN = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), strict_img_size=False)
#: wrapped libraries in small: architectures that the catalogue lists only in large
SMALL = {
    "smp_deeplabv3plus": Entry("smp", {"arch": "deeplabv3plus"}),
    "smp_pspnet": Entry("smp", {"arch": "pspnet"}),
    "timm_mobilenet": Entry("timm", {"encoder": "mobilenetv3_small_050", "decoder_channels": 32}),
    "timm_swin": Entry("timm", {"encoder": "swin_tiny_patch4_window7_224", "decoder_channels": 32, **TINY_SWIN}),
}
LIGHT = ("light_fpn_efficientformerv2_s0", "light_fpn_mobilenetv2_100", "light_fpn_shufflenet_v2_x0_5")
STUDENTS = {k: entry for k, entry in catalogue().items() if entry.kind == "student" or k in LIGHT} | SMALL
#: of different makers, and each with something that the others lack
NAMED = ("fast_scnn", "bisenetv2", "ddrnet23_slim", "espnet", "swiftnet_rn18", "smp_deeplabv3plus")


def build(label: str, **more: Any) -> Network:
    """The same weights each time."""
    entry = (STUDENTS | catalogue())[label]
    torch.manual_seed(0)
    return create(entry.name, num_classes=more.pop("num_classes", CLASSES), **{**entry.options, **more})


def settled(network: Network) -> Network:
    """In eval, with the BatchNorm statistics of a few images such as the gate compares: without them, or with those of
    others, untrained networks amplify rounding.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.momentum for m in norms]
    network.train()
    for m in norms:
        m.momentum = None  # the mean over all batches seen
    with torch.no_grad():
        for height in (64, 96):
            network.predict(random_images(2, (height, 128), seed=height))
    for m, momentum in zip(norms, before, strict=True):
        m.momentum = momentum
    return network.eval()


def image(height: int, width: int, batch: int = 1) -> Tensor:
    """uint8 noise (batch, 3, height, width)."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


def refused_where_torch_fails(network: Network, size: tuple[int, int]) -> bool:
    """Whether one image of ``size`` is refused in training, which must be exactly where ``forward`` fails in torch."""
    x = torch.randn(1, 3, *size)
    try:
        network.forward(x)
    except ValueError:
        with pytest.raises(UserError, match=f"^{type(network).__name__} cannot train with batch size 1"):
            network(x)
        return True
    assert network(x).shape == (1, network.num_classes, *size)
    return False


def results() -> dict[str, dict[str, Any]]:
    """label -> row of the last full run."""
    content: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    return content
