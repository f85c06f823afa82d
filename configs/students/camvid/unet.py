"""U-Net alone on CamVid: 400 epochs of batch 8, SGD 0.01 with polynomial decay, cross entropy; this recipe is ours.

Published is one for microscope images: SGD with momentum 0.99 on one image at a time (its learning rate is not named),
cross entropy weighted by class and towards the borders between cells, elastic deformations. Momentum 0.9 at batch 8
averages over about as many images.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *

from torch.optim import SGD

from segkd.models.unet import UNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=UNet, num_classes=11))
schedule = dict(steps=18400, val_interval=460, warmup=200, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
