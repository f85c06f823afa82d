"""UPerNet on ConvNeXt-B on Cityscapes: ConvNeXt's schedule for ADE20K (160,000 steps of batch 16, drop path 0.4).

With a network, start the encoder from ImageNet: --set model.network.pretrained=True (timm downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.upernet_convnext_supervision import supervision
    from ..._base_.schedules.upernet_convnext_160k import *

from segkd.models.smp import SmpModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(
        type=SmpModel,
        arch="UPerNet",
        encoder="tu-convnext_base",
        num_classes=19,
        pretrained=False,
        drop_path_rate=0.4,
    ),
    supervision=supervision,
)
data.update(batch_size=16)
