"""PoolFormer-S12 under a small pyramid decoder, alone on CamVid.

With a network, start the backbone from ImageNet: --set model.network.pretrained=True (timm downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.schedules.light_fpn_camvid import *

from segkd.models.light_fpn import LightFPN
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=LightFPN, backbone="poolformer_s12", num_classes=11, pretrained=False),
)
data.update(batch_size=16)
