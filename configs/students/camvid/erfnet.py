"""ERFNet alone on CamVid, with Cityscapes' recipe for 400 epochs of batch 8; none is published for CamVid."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.class_weights import camvid_weights

from torch.optim import Adam

from segkd.models.erfnet import ERFNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ERFNet, num_classes=11),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=camvid_weights))),
)
schedule = dict(steps=18400, val_interval=460, power=0.9)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
