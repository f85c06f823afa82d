"""CamVid, 11 classes, 480 x 360 (width x height), read from data/camvid (override data.dataset.root)."""

from segkd.datasets.camvid import CamVid
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=CamVid, root="data/camvid"),
    train=dict(split="train"),
    val=dict(split="val"),
    test=dict(split="test"),
    augment=dict(type=TrainTransform, crop_size=(352, 480), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=8,
    workers=1,
)
