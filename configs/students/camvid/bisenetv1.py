"""BiSeNet (ResNet-18) alone on CamVid at 480 x 360: its Cityscapes recipe, 400 epochs at batch 16.

The authors' code has no recipe for CamVid. They start from ResNet-18's ImageNet weights:
``--set model.network.pretrained=True`` downloads torchvision's.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.bisenetv1_supervision import supervision
    from ..._base_.schedules.bisenetv1 import *

from segkd.models.bisenetv1 import BiSeNetV1
from segkd.segmentor import Segmentor

data.update(batch_size=16, workers=8)
schedule.update(steps=9200, val_interval=460)
model = dict(type=Segmentor, network=dict(type=BiSeNetV1, num_classes=11, pretrained=False), supervision=supervision)
