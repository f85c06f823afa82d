"""ShuffleNetV2 x1.0 under a small pyramid decoder, alone on Cityscapes.

With a network, start the backbone from ImageNet: --set model.network.pretrained=True (torchvision downloads it).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.schedules.light_fpn import *

from segkd.models.light_fpn import LightFPN
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=LightFPN, backbone="shufflenet_v2_x1_0", num_classes=19, pretrained=False),
)
data.update(batch_size=16)
