"""CamVid, 11 classes, 480 x 360 (width x height), read from data/camvid (override data.dataset.root).

The augmentation stays where the published ESPNet knows what it sees: of the training pixels it gets 94 % right at their
own size, but 72 % at half of it, and 89 % with varied colours.
"""

from segkd.datasets.camvid import CamVid
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=CamVid, root="data/camvid"),
    train=dict(split="train"),
    val=dict(split="val"),
    test=dict(split="test"),
    augment=dict(type=TrainTransform, crop_size=(352, 480), scale=(0.75, 2.0), flip=0.5, photometric=False),
    batch_size=8,
    workers=1,
)
