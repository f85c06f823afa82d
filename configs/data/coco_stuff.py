"""COCO-Stuff 164k, 171 classes, read as distributed from data/coco_stuff (images/ and annotations/)."""

from segkd.datasets.coco_stuff import COCOStuff
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=COCOStuff, root="data/coco_stuff"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 512), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=16,
    workers=8,
)
