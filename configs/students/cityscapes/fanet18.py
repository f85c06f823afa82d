"""FANet-18 alone on Cityscapes: 40,000 steps of SGD at batch 16 with two auxiliary heads.

The schedule, the scales and the loss are those of the one config that the authors published (FANet-18, another data
set); its crops of 384 x 384 belong to smaller images, so the crop here is this project's. Their warm-up is exponential,
from 1e-5, their colours vary by up to half (here by 0.3, and in hue), and they also rotate by up to 5 degrees. They
start from ImageNet weights: model.network.pretrained=True.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.fanet_supervision import supervision

from torch.optim import SGD

from segkd.models.fanet import FANet18
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FANet18, num_classes=19, pretrained=False), supervision=supervision)
data.update(batch_size=16)
schedule = dict(steps=40000, val_interval=4000, warmup=1000, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
