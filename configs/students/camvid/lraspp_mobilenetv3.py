"""torchvision's LR-ASPP on MobileNetV3-Large, alone on CamVid: the schedule of Cityscapes, but 400 epochs at batch 16.

With a network, start the backbone from ImageNet: --set model.network.pretrained=True (torchvision downloads it).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.schedules.lraspp import *

from segkd.models.torchvision import TorchvisionModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=TorchvisionModel, arch="lraspp_mobilenet_v3_large", num_classes=11, pretrained=False),
)
data.update(batch_size=16)
schedule.update(steps=9200, val_interval=460)
