"""Synthetic streets, 11 classes, drawn on the fly: no file, no download.

12,000 scenes are the 1,500 steps of 8 of the schedule, each seen once, and as it is drawn: scaled and recoloured scenes
would only take longer to learn.
"""

from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=SyntheticStreets, size=(256, 512), seed=0),
    train=dict(split="train", length=12000),
    val=dict(split="val", length=100),
    test=dict(split="test", length=200),
    augment=dict(type=TrainTransform, crop_size=(256, 512), scale=None, flip=0.5, photometric=False),
    batch_size=8,
    workers=1,
)
