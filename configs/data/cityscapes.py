"""Cityscapes, 19 classes, 2048 x 1024, read as distributed from data/cityscapes (leftImg8bit/ and gtFine/).

The frequencies of the classes are those behind the weights that ERFNet's authors publish; 11.5 % of the pixels are
void.
"""

from segkd.datasets.cityscapes import Cityscapes
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=Cityscapes, root="data/cityscapes"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=12,
    workers=8,
)
frequencies = [
    0.3265370431, 0.0539188688, 0.2020229061, 0.0058068257, 0.0077733089, 0.0108665491,
    0.0018388228, 0.0048792615, 0.1409477182, 0.0102594083, 0.0354938703, 0.0107956129,
    0.0011965221, 0.0619666848, 0.0023687101, 0.0020826140, 0.0020626978, 0.0008739424,
    0.0036665367,
]  # fmt: skip
