"""torchvision's DeepLabV3 on ResNet-101 on CamVid: the schedule of Cityscapes, but 400 epochs at batch 8.

With a network, start the encoder from ImageNet: --set model.network.pretrained=True (torchvision downloads it).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.deeplabv3_supervision import supervision
    from ..._base_.schedules.deeplabv3 import *

from segkd.models.torchvision import TorchvisionModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=TorchvisionModel, arch="deeplabv3_resnet101", num_classes=11, pretrained=False),
    supervision=supervision,
)
data.update(batch_size=8)
data["augment"].update(scale=(0.5, 2.0), photometric=True)
schedule.update(steps=18400, val_interval=920)
