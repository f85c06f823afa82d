"""ICNet alone on CamVid at 480 x 360: the recipe of ``cityscapes/icnet`` over 400 epochs; none is published."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.icnet_supervision import supervision

from torch.optim import SGD

from segkd.models.icnet import ICNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=ICNet, num_classes=11), supervision=supervision)
data["augment"].update(scale=(0.5, 2.0), photometric=False)
data.update(batch_size=16)
schedule = dict(steps=9200, val_interval=460, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
