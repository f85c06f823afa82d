"""SwiftNetRN-18 pyramid alone on Cityscapes: 250 epochs of Adam with cosine decay on crops of 768 x 768.

The authors start from ImageNet weights, which learn at a quarter of the rate with a quarter of the weight decay:
model.network.pretrained=True and optim.paramwise={"custom_keys":{"trunk":{"lr_mult":0.25,"decay_mult":0.25}}}.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.swiftnet_supervision import supervision

from torch.optim import Adam

from segkd.models.swiftnet import SwiftNetRN18Pyramid
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor, network=dict(type=SwiftNetRN18Pyramid, num_classes=19, pretrained=False), supervision=supervision
)
data["augment"].update(crop_size=(768, 768), scale=(0.5, 2.0), photometric=False)
data.update(batch_size=14)
schedule = dict(steps=53000, val_interval=5300, policy="cosine", min_lr=1e-6)  # 212 full batches an epoch
optim = dict(optimizer=dict(type=Adam, lr=4e-4, betas=(0.9, 0.99), weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
