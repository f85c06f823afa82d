"""PoolFormer-S12 under a small pyramid decoder, alone on CamVid.

With a network, start the backbone from ImageNet: --set model.network.pretrained=True (timm downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.students.light_fpn_camvid import *

model["network"].update(backbone="poolformer_s12")
