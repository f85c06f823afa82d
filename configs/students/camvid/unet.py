"""U-Net alone on CamVid: SGD 0.01 with polynomial decay for 400 epochs of batch 8; its paper has no recipe for it."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *

from torch.optim import SGD

from segkd.models.unet import UNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=UNet, num_classes=11))
schedule = dict(steps=18400, val_interval=460, warmup=200, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="bf16", channels_last=True)
seed = 0
