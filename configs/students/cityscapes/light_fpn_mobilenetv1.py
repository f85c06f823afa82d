"""MobileNetV1 under a small pyramid decoder, alone on Cityscapes.

With a network, start the backbone from ImageNet: --set model.network.pretrained=True (timm downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.students.light_fpn_cityscapes import *

model["network"].update(backbone="mobilenetv1_100")
