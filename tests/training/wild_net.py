"""A small network whose channels differ wildly, so that int8 costs it much, and data that it learns in seconds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.datasets import Sample, SegmentationDataset
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.models.base import Network, Preprocess, resize_to
from segkd.training.state import save_student

SIZE = (32, 48)
CLASSES = ("red", "green", "blue", "grey")


class WildNet(Network):
    """Stem, a depthwise and a pointwise convolution, head, bilinear upsampling."""

    def __init__(self, num_classes: int = len(CLASSES), width: int = 8) -> None:
        super().__init__(num_classes, Preprocess())
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.pointwise = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.pointwise(self.depthwise(self.stem(x))))
        return resize_to(self.classifier(self.dropout(y)), x.shape[-2:])


class Tints(SegmentationDataset):
    """Noisy blocks, hardly tinted; the label is the strongest channel, or grey where none is by far."""

    class_names, palette = CLASSES, ((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128))

    def __init__(self, length: int, split: str = "train") -> None:
        self.length, self.split = length, split

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        draw = np.random.default_rng([index, len(self.split)])
        label = np.kron(draw.integers(0, 4, (SIZE[0] // 8, SIZE[1] // 8)), np.ones((8, 8))).astype(np.uint8)
        tint = np.concatenate([np.eye(3), np.zeros((1, 3))])[label] * 40
        image = 100 + tint + draw.normal(0, 12, (*SIZE, 3))
        return Sample(image.clip(0, 255).astype(np.uint8), label)


def batch(dataset: Tints, numbers: Any) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) uint8 and labels (N, H, W)."""
    samples = [dataset[int(i)] for i in numbers]
    image = torch.stack([torch.from_numpy(s.image).permute(2, 0, 1) for s in samples])
    return image, torch.stack([torch.from_numpy(s.label).long() for s in samples])


def trained_net(steps: int = 100) -> WildNet:
    """The network in float, trained."""
    torch.manual_seed(0)
    net, data = WildNet(), Tints(64)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(steps):
        image, label = batch(data, torch.randint(64, (8,)))
        loss = F.cross_entropy(net.predict(image), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


@torch.no_grad()
def wild(net: WildNet, factor: float = 200.0) -> WildNet:
    """The same function: every fourth channel behind two activations is larger by a factor, and what reads it smaller.

    One scale for all channels then leaves the others a few integers.
    """
    net = copy.deepcopy(net)
    first, second = torch.ones(2, len(net.pointwise.bias))  # type: ignore[arg-type]
    first[3::4] = second[2::4] = factor
    for norm, own in ((net.stem[1], first), (net.depthwise[1], second)):
        norm.weight *= own
        norm.bias *= own
    net.depthwise[0].weight /= first.view(-1, 1, 1, 1)
    net.pointwise.weight /= second.view(1, -1, 1, 1)
    return net


def write_weights(folder: Path) -> Path:
    """``float.pth``, the network as it was trained, and ``wild.pth``, the same function in wild channels."""
    net = trained_net()
    save_student(net, folder / "float.pth")
    save_student(wild(net), folder / "wild.pth")
    return folder


def config(weights: Path, quantize: Mapping[str, Any] | None, **schedule: Any) -> dict[str, Any]:
    """Distillation of the wild network from itself in float."""
    student = dict(type=WildNet, weights=str(weights / "wild.pth"))
    teacher = dict(type=WildNet, weights=str(weights / "float.pth"))
    binds = dict(
        pixel=dict(student="", teacher="", loss=dict(type="kd", temperature=1.0)),
        deep=dict(student="pointwise", teacher="pointwise", loss=dict(type="cwd")),
    )
    return dict(
        model=dict(type=Distiller, student=student, teacher=teacher, binds=binds),
        data=dict(
            dataset=dict(type=Tints),
            train=dict(length=64),
            val=dict(length=4, split="val"),
            augment=dict(type=TrainTransform, crop_size=SIZE, scale=None, photometric=False),
            batch_size=8,
        ),
        optim=dict(optimizer=dict(type="Adam", lr=3e-3)),
        schedule=dict(steps=4, val_interval=2) | schedule,
        engine=dict(log_interval=1, gradient_interval=0, val_images=0),
        **({} if quantize is None else {"quantize": dict(quantize)}),
    )
