"""Fast-SCNN on synthetic streets taught by DeepLabV3+: pixel-wise KD and CWD on the full-size logits.

Void and padding take no part: a teacher's answer there is noise. Both weights are 1, ours (CWD's published: 3).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.synthetic import *
    from ..._base_.models.fast_scnn_supervision import supervision
    from ..._base_.schedules.synthetic_cpu import *

from segkd.distiller import Distiller
from segkd.losses.cwd import ChannelWise
from segkd.losses.kd import PixelwiseKD
from segkd.models.fast_scnn import FastSCNN
from segkd.models.smp import SmpModel

model = dict(
    type=Distiller,
    student=dict(type=FastSCNN, num_classes=11),
    teacher=dict(
        type=SmpModel,
        arch="DeepLabV3Plus",
        encoder="resnet18",
        num_classes=11,
        weights="work/teachers/synthetic/deeplabv3plus_r18/student_best.pth",
    ),
    supervision=supervision,
    binds=dict(
        pixel=dict(student="", teacher="", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0, masked=True),
        channel=dict(student="", teacher="", loss=dict(type=ChannelWise, temperature=4.0), weight=1.0, masked=True),
    ),
)
