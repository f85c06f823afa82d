"""BiSeNet (ResNet-18) alone on Cityscapes, as its authors train it: crops of 1024 x 1024, batch 16, 80,000 steps.

They start from ResNet-18's ImageNet weights: ``--set model.network.pretrained=True`` downloads torchvision's. Their
scale is drawn from 0.75, 1, .. 2, here uniform in between; no change of colours, as there.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.bisenetv1_supervision import supervision
    from ..._base_.schedules.bisenetv1 import *

from segkd.models.bisenetv1 import BiSeNetV1
from segkd.segmentor import Segmentor

data["augment"].update(crop_size=(1024, 1024), scale=(0.75, 2.0), photometric=False)
data.update(batch_size=16)
model = dict(type=Segmentor, network=dict(type=BiSeNetV1, num_classes=19, pretrained=False), supervision=supervision)
