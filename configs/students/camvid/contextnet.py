"""ContextNet alone on CamVid, with Cityscapes' recipe for 400 epochs of batch 16; none is published for CamVid."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *

from torch.optim import SGD

from segkd.models.contextnet import ContextNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=ContextNet, num_classes=11))
data.update(batch_size=16)
schedule = dict(steps=9200, val_interval=460, warmup=200, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.045, momentum=0.9, weight_decay=4e-5))
engine = dict(precision="auto", channels_last=True)
seed = 0
