"""Cityscapes, 19 classes, 2048 x 1024, read as distributed from data/cityscapes (leftImg8bit/ and gtFine/)."""

from segkd.datasets.cityscapes import Cityscapes
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=Cityscapes, root="data/cityscapes"),
    train=dict(split="train"),
    val=dict(split="val"),
    test=dict(split="val"),  # the labels of the test split are not public
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=12,
    workers=8,
)
