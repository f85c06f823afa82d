"""SegFormer-B2 on CamVid: the schedule of Cityscapes, but 400 epochs at batch 8, as none is published.

With a network, start the encoder from ImageNet: --set model.network.pretrained=True (smp downloads it on first use).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.schedules.segformer_160k import *

from segkd.models.smp import SmpModel
from segkd.segmentor import Segmentor

model = dict(
    type=Segmentor,
    network=dict(type=SmpModel, arch="Segformer", encoder="mit_b2", num_classes=11, pretrained=False),
)
data.update(batch_size=8)
data["augment"].update(scale=(0.5, 2.0), photometric=True)
schedule.update(steps=18400, val_interval=920)
