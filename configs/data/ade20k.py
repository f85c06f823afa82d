"""ADE20K (SceneParsing), 150 classes, read as distributed from data/ADEChallengeData2016."""

from segkd.datasets.ade20k import ADE20K
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=ADE20K, root="data/ADEChallengeData2016"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 512), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=16,
    workers=8,
)
