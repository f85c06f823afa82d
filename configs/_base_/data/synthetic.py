"""Synthetic streets, 11 classes, drawn on the fly: no file, no download."""

from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=SyntheticStreets, size=(256, 512), seed=0, cache=True),
    train=dict(split="train", length=2000),
    val=dict(split="val", length=100),
    test=dict(split="test", length=200),
    augment=dict(type=TrainTransform, crop_size=(256, 512), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=8,
    workers=1,
)
