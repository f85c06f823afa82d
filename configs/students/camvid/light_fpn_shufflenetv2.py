"""ShuffleNetV2 x1.0 under a small pyramid decoder, alone on CamVid.

With a network, start the backbone from ImageNet: --set model.network.pretrained=True (torchvision downloads it).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.students.light_fpn_camvid import *

model["network"].update(backbone="shufflenet_v2_x1_0")
