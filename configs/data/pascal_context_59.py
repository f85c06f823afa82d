"""PASCAL Context, 59 classes, background void, read from data/VOCdevkit/VOC2010 (or --set data.dataset.labels=DIR)."""

from segkd.datasets.pascal_context import PascalContext59
from segkd.datasets.transforms import TrainTransform

like = "pascal_context"
data = dict(
    dataset=dict(type=PascalContext59, root="data/VOCdevkit/VOC2010"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(480, 480), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=16,
    workers=8,
)
