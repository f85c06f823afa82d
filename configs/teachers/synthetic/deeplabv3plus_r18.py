"""DeepLabV3+ with a ResNet-18 encoder on synthetic streets, from scratch."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.synthetic import *
    from ..._base_.schedules.synthetic_cpu import *

from torch.optim import AdamW

from segkd.models.smp import SmpModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=SmpModel, arch="DeepLabV3Plus", encoder="resnet18", num_classes=11),
)
optim = dict(optimizer=dict(type=AdamW, lr=4e-3, weight_decay=1e-2))
