"""SegFormer-B2 on Cityscapes, its published schedule: 160,000 steps of batch 8, crops of 1024 x 1024.

With a network, start the encoder from ImageNet: --set model.network.pretrained=True (smp downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.schedules.segformer_160k import *

from segkd.models.smp import SmpModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=SmpModel, arch="Segformer", encoder="mit_b2", num_classes=19, pretrained=False),
)
data.update(batch_size=8)
data["augment"].update(crop_size=(1024, 1024))
