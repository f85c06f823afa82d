"""Images whose classes are their colours, and a teacher that is right on them by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segkd.datasets import Sample, SegmentationDataset
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.losses import DistillationLoss
from segkd.models import Network
from segkd.models.base import Preprocess

COLOURS = (
    (200, 40, 30), (30, 180, 60), (40, 60, 220), (230, 200, 40), (120, 20, 140), (90, 110, 100), (20, 25, 60),
    (240, 130, 190), (140, 80, 20), (150, 220, 240), (10, 110, 110), (200, 190, 170),
)  # fmt: skip
NAMES = (
    "brick", "grass", "water", "sand", "plum", "stone", "night", "rose", "earth", "ice", "pond", "chalk",
)  # fmt: skip


class Mosaics(SegmentationDataset):
    """Blocks of noisy colours, one a class; the border is void."""

    class_names, palette = NAMES, COLOURS

    def __init__(self, length: int = 10, split: str = "train") -> None:
        self.length, self.split = length, split

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([index, len(self.split)])
        label = np.kron(rng.integers(0, len(NAMES), (6, 8)), np.ones((8, 8), np.int64)).astype(np.uint8)
        image = np.array(COLOURS)[label] + rng.normal(0, 12, (*label.shape, 3))
        label[:, :2] = 255
        return Sample(image.clip(0, 255).astype(np.uint8), label)


class ByColour(Network):
    """The class of the nearest colour, for inputs normalised as ImageNet's: a 1x1 convolution.

    Args:
        num_classes: outputs.
        order: the class of each output; None for one that never wins.
        preprocess: what it is given, right or wrong.
    """

    def __init__(self, num_classes: int = len(NAMES), order: Any = None, preprocess: Preprocess | None = None) -> None:
        super().__init__(num_classes, preprocess)
        order = range(num_classes) if order is None else order
        colours = torch.tensor(COLOURS, dtype=torch.float32).view(-1, 3, 1, 1)
        inputs = Preprocess()(colours).flatten(1)
        self.classifier = nn.Conv2d(3, num_classes, 1)
        with torch.no_grad():
            for output, own in enumerate(order):
                centre = torch.zeros(3) if own is None else inputs[own]
                self.classifier.weight[output] = 2 * centre.view(3, 1, 1)
                self.classifier.bias[output] = -1e6 if own is None else -centre.square().sum()  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(x)
        return logits


class Learner(Network):
    """A student with dropout, which draws from torch's random state."""

    def __init__(self, num_classes: int = len(NAMES)) -> None:
        super().__init__(num_classes)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.unused = nn.Conv2d(3, len(NAMES), 1)
        self.classifier = nn.Conv2d(8, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        logits: Tensor = self.classifier(self.features(x))
        return logits


class Far(DistillationLoss):
    """A mean distance, times a factor; in other ways of going wrong, without gradient or not a number."""

    def __init__(self, factor: float = 1.0, deaf: bool = False, broken: bool = False) -> None:
        super().__init__()
        self.factor, self.deaf, self.broken = factor, deaf, broken

    def forward(self, student: Any, teacher: Any, label: Any = None, **others: Any) -> Tensor:
        student = student.detach() if self.deaf else student
        value: Tensor = self.factor * (student - teacher).square().mean()
        return (-value).sqrt() if self.broken else value


def config(teacher: Any = None, loss: Any = None, **model: Any) -> dict[str, Any]:
    """A complete config: Learner taught by ``teacher``, or alone."""
    bind = dict(student="", teacher="", loss=loss or dict(type=Far, factor=0.01))
    taught = dict(type=Distiller, student=dict(type=Learner), teacher=teacher, binds=dict(far=bind))
    return dict(
        model={**taught, **model},
        data=dict(
            dataset=dict(type=Mosaics),
            train=dict(split="train"),
            val=dict(split="val"),
            augment=dict(type=TrainTransform, crop_size=(48, 64), photometric=False),
            batch_size=2,
        ),
        optim=dict(optimizer=dict(type=torch.optim.SGD, lr=0.01)),
        schedule=dict(steps=3, val_interval=2),
        seed=1,
    )
