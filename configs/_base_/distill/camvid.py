"""What CamVid's distillation configs share: Fast-SCNN and its supervision, the published ESPNet, a CPU's schedule."""

from mmengine.config import read_base

with read_base():
    from ..data.camvid import *
    from ..models.espnet_camvid_published import teacher
    from ..models.fast_scnn_supervision import supervision
    from ..schedules.camvid_cpu import *

from segkd.distiller import Distiller
from segkd.models.fast_scnn import FastSCNN

model = dict(
    type=Distiller,
    student=dict(type=FastSCNN, num_classes=11),
    teacher=teacher,
    supervision=supervision,
)
