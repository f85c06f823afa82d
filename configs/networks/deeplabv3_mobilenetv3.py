"""DeepLabV3 of torchvision on MobileNetV3-Large: as on ResNets, without the auxiliary head."""

from mmengine.config import read_base

with read_base():
    from .deeplabv3 import *

supervision.pop("aux")
