"""SwiftNetRN-18 pyramid alone on CamVid, 480 x 360: the recipe of ``cityscapes/swiftnet_rn18_pyramid``, 400 epochs.

The published results are of images of 960 x 720. As for the start from ImageNet weights, see there.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.swiftnet_supervision import supervision

from torch.optim import Adam

from segkd.models.swiftnet import SwiftNetRN18Pyramid
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor, network=dict(type=SwiftNetRN18Pyramid, num_classes=11, pretrained=False), supervision=supervision
)
data["augment"].update(scale=(0.5, 2.0))
data.update(batch_size=14)
schedule = dict(steps=10400, val_interval=520, policy="cosine", min_lr=1e-6)
optim = dict(optimizer=dict(type=Adam, lr=4e-4, betas=(0.9, 0.99), weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
