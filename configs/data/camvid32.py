"""CamVid with its authors' 31 classes and Void, 960 x 720, read as distributed from data/camvid_original."""

from segkd.datasets.camvid_original import CamVid32
from segkd.datasets.transforms import TrainTransform

like = "camvid"
data = dict(
    dataset=dict(type=CamVid32, root="data/camvid_original"),
    train=dict(split="train"),
    val=dict(split="val"),
    test=dict(split="test"),
    augment=dict(type=TrainTransform, crop_size=(704, 960), scale=(0.75, 2.0), flip=0.5, photometric=False),
    batch_size=8,
    workers=1,
)
