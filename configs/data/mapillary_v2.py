"""Mapillary Vistas v2.0, 116 classes, read as distributed from data/mapillary (training/ and validation/)."""

from segkd.datasets.mapillary import MapillaryV2
from segkd.datasets.transforms import TrainTransform

like = "cityscapes"
data = dict(
    dataset=dict(type=MapillaryV2, root="data/mapillary"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=8,
    workers=8,
)
