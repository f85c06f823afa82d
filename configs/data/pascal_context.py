"""PASCAL Context, 60 classes with background, read from data/VOCdevkit/VOC2010 (or --set data.dataset.labels=DIR)."""

from segkd.datasets.pascal_context import PascalContext
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=PascalContext, root="data/VOCdevkit/VOC2010"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(480, 480), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=16,
    workers=8,
)
