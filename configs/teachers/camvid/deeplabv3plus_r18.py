"""DeepLabV3+ with a ResNet-18 encoder on CamVid, from scratch, on a CPU."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.schedules.camvid_cpu import *

from torch.optim import AdamW

from segkd.models.smp import SmpModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=SmpModel, arch="DeepLabV3Plus", encoder="resnet18", num_classes=11),
)
optim = dict(optimizer=dict(type=AdamW, lr=2e-3, weight_decay=1e-2))
data["augment"].update(scale=(0.5, 2.0), photometric=True)
