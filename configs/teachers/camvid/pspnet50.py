"""PSPNet with a ResNet-50 on CamVid; otherwise ``pspnet101``."""

from mmengine.config import read_base

with read_base():
    from .pspnet101 import *

model["network"].update(encoder="resnet50")
