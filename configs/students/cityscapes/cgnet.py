"""CGNet alone on Cityscapes, as published for the train set: 300 epochs of Adam at batch 16 on crops of 680 x 680.

The authors' scale is one of 0.5, 0.6, .. 2; their class weights, 1 / ln(1.10 + frequency), leave void out of the total;
they count train and val, here it is train.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.class_weights import cityscapes_weights_cgnet

from torch.optim import Adam

from segkd.models.cgnet import CGNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=CGNet, num_classes=19),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=cityscapes_weights_cgnet))),
)
data["augment"].update(crop_size=(680, 680), scale=(0.5, 2.0), photometric=False)
data.update(batch_size=16)
schedule = dict(steps=55500, val_interval=5550, power=0.9)  # 185 full batches an epoch
optim = dict(optimizer=dict(type=Adam, lr=1e-3, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
