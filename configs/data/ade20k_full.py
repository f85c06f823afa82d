"""The full ADE20K of 2021 as the 150 classes of scene parsing, read as distributed from data/ADE20K_2021_17_01."""

from segkd.datasets.ade20k import ADE20KFull
from segkd.datasets.transforms import TrainTransform

like = "ade20k"
data = dict(
    dataset=dict(type=ADE20KFull, root="data/ADE20K_2021_17_01"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 512), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=16,
    workers=8,
)
