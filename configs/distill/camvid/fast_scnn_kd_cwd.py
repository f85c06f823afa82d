"""Fast-SCNN on CamVid taught by the published ESPNet: pixel-wise KD and CWD on the logits, on a CPU.

Void and padding take no part: a teacher's answer there is noise.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.espnet_camvid_published import teacher
    from ..._base_.models.fast_scnn_supervision import supervision
    from ..._base_.schedules.camvid_cpu import *

from segkd.distiller import Distiller
from segkd.losses.cwd import ChannelWise
from segkd.losses.kd import PixelwiseKD
from segkd.models.fast_scnn import FastSCNN

model = dict(
    type=Distiller,
    student=dict(type=FastSCNN, num_classes=11),
    teacher=teacher,
    supervision=supervision,
    binds=dict(
        pixel=dict(student="", teacher="", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0, masked=True),
        channel=dict(student="", teacher="", loss=dict(type=ChannelWise, temperature=4.0), weight=1.0, masked=True),
    ),
)
