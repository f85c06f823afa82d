"""What Cityscapes' distillation configs share: Fast-SCNN and its supervision, DeepLabV3+-R101, a GPU's schedule."""

from mmengine.config import read_base

with read_base():
    from ..data.cityscapes import *
    from ..models.fast_scnn_supervision import supervision
    from ..schedules.gpu_80k import *

from segkd.distiller import Distiller
from segkd.models.fast_scnn import FastSCNN
from segkd.models.smp import SmpModel

model = dict(
    type=Distiller,
    student=dict(type=FastSCNN, num_classes=19),
    teacher=dict(
        type=SmpModel,
        arch="DeepLabV3Plus",
        encoder="resnet101",
        num_classes=19,
        weights="work/teachers/cityscapes/deeplabv3plus_r101/student_best.pth",
    ),
    supervision=supervision,
)
