"""DeepLabV3+ with a ResNet-101 encoder on Cityscapes.

With a network, start the encoder from ImageNet: --set model.network.pretrained=True (smp downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.schedules.gpu_80k import *

from torch.optim import SGD

from segkd.models.smp import SmpModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=SmpModel, arch="DeepLabV3Plus", encoder="resnet101", num_classes=19, pretrained=False),
)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
