"""BDD100K, the 19 classes of Cityscapes, 1280 x 720, read as distributed from data/bdd100k (images/ and labels/)."""

from segkd.datasets.bdd100k import BDD100K
from segkd.datasets.transforms import TrainTransform

like = "cityscapes"
data = dict(
    dataset=dict(type=BDD100K, root="data/bdd100k"),
    train=dict(split="train"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=8,
    workers=8,
)
