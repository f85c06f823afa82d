"""U-Net alone on Cityscapes: 80,000 steps of batch 12, SGD 0.01 with polynomial decay, cross entropy.

This recipe is ours; what its authors publish is in the config for CamVid.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.schedules.gpu_80k import *

from torch.optim import SGD

from segkd.models.unet import UNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=UNet, num_classes=19))
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
