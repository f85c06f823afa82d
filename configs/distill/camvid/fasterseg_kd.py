"""FasterSeg on CamVid taught by its teacher: KL divergence of the full-size logits at temperature 1.

The authors' mean is over classes too, hence a weight of one in 11.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid_fasterseg import *
    from ..._base_.models.fasterseg_supervision import supervision
    from ..._base_.schedules.camvid_fasterseg import *

from segkd.distiller import Distiller
from segkd.losses.kd import PixelwiseKD
from segkd.models.fasterseg import FasterSeg, FasterSegTeacher

model = dict(
    type=Distiller,
    student=dict(type=FasterSeg, num_classes=11),
    teacher=dict(
        type=FasterSegTeacher,
        num_classes=11,
        weights="work/teachers/camvid/fasterseg_teacher/student_best.pth",
    ),
    supervision=supervision,
    binds=dict(
        pixel=dict(student="", teacher="", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1 / 11),
    ),
)
