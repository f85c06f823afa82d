"""FANet-34 alone on CamVid at 480 x 360: the recipe of ``cityscapes/fanet34`` over 400 epochs; none is published.

The authors start from ImageNet weights: model.network.pretrained=True.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.fanet_supervision import supervision

from torch.optim import SGD

from segkd.models.fanet import FANet34
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FANet34, num_classes=11, pretrained=False), supervision=supervision)
data["augment"].update(scale=(0.5, 2.0), photometric=True)
data.update(batch_size=16)
schedule = dict(steps=9200, val_interval=460, warmup=200, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
