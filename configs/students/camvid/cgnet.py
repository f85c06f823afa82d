"""CGNet alone on CamVid, as published: 800 epochs of Adam at batch 8 on crops of 360 x 360, weighted classes.

The authors train on train and val, at one of the scales 0.5, 0.6, .. 2; here it is train alone. Their class weights,
1 / ln(1.10 + frequency), leave void out of the total; they count train and val, here it is train.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.class_weights import camvid_weights_cgnet

from torch.optim import Adam

from segkd.models.cgnet import CGNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=CGNet, num_classes=11, mean=(99.63, 103.33, 105.66)),  # of train and val, as the authors'
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=camvid_weights_cgnet))),
)
data["augment"].update(crop_size=(360, 360), scale=(0.5, 2.0), photometric=False)
data.update(batch_size=8)
schedule = dict(steps=36000, val_interval=1800, power=0.9)
optim = dict(optimizer=dict(type=Adam, lr=1e-3, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
