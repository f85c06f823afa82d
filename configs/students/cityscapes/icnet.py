"""ICNet alone on Cityscapes: 30,000 steps at batch 16, from scratch.

The steps are the authors' (30k on the training images); their training code is not public, so that the rest is
PSPNet's, from the same authors: SGD, polynomial decay, mirrored and scaled crops. They train a network of full width
first and then halve it.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.icnet_supervision import supervision

from torch.optim import SGD

from segkd.models.icnet import ICNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=ICNet, num_classes=19), supervision=supervision)
data["augment"].update(crop_size=(713, 713), scale=(0.5, 2.0), photometric=False)
data.update(batch_size=16)
schedule = dict(steps=30000, val_interval=3000, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
