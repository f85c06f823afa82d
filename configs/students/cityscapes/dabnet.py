"""DABNet alone on Cityscapes, as published: 1,000 epochs of SGD at batch 8 on crops of 512 x 1024, OHEM.

The authors' scale is one of 0.75, 1, 1.25, .. 2, their warm-up begins at a third of the learning rate, and their loss
is divided by the chosen pixels' class weights, not by their number. They found 0.045 perhaps too much.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.data.cityscapes_hrnet import class_weight

from torch.optim import SGD

from segkd.models.dabnet import DABNet
from segkd.segmentor import Segmentor
from segkd.supervision import OHEM

_ohem = dict(type=OHEM, threshold=0.7, min_kept=1 / 16, select="probability", class_weight=class_weight)
model = dict(type=Segmentor, network=dict(type=DABNet, num_classes=19), supervision=dict(main=dict(loss=_ohem)))
data["augment"].update(crop_size=(512, 1024), scale=(0.75, 2.0), photometric=False)
data.update(batch_size=8)
schedule = dict(steps=371000, val_interval=18550, warmup=500, power=0.9)  # 371 full batches an epoch
optim = dict(optimizer=dict(type=SGD, lr=0.045, momentum=0.9, weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
