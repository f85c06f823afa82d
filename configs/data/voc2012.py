"""VOC 2012 with SBD (trainaug), 21 classes, read from data/VOCdevkit/VOC2012.

SegmentationClassAug/ and trainaug.txt in it, or SBD as distributed by --set data.dataset.sbd=DIR; VOC's own 1,464
training pictures by --set data.train.split=train.
"""

from segkd.datasets.voc2012 import VOC2012
from segkd.datasets.transforms import TrainTransform

data = dict(
    dataset=dict(type=VOC2012, root="data/VOCdevkit/VOC2012"),
    train=dict(split="trainaug"),
    val=dict(split="val"),
    augment=dict(type=TrainTransform, crop_size=(512, 512), scale=(0.5, 2.0), flip=0.5, photometric=True),
    batch_size=16,
    workers=8,
)
