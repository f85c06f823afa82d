"""CamVid, 11 classes, 480 x 360 (width x height), read from data/camvid (override data.dataset.root).

The scale is for short schedules: after 300 steps Fast-SCNN had 36.7 val mIoU with (0.5, 2.0), 41.9 with (0.75, 1.5) and
44.7 without scaling. The GPU configs, which train for 400 epochs, set (0.5, 2.0).
"""

from segkd.datasets.camvid import CamVid
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=CamVid, root="data/camvid"),
    train=dict(split="train"),
    val=dict(split="val"),
    test=dict(split="test"),
    augment=dict(type=TrainTransform, crop_size=(352, 480), scale=(0.75, 1.25), flip=0.5, photometric=True),
    batch_size=8,
    workers=1,
)
