"""FasterSeg on Cityscapes taught by its teacher, as published: KL divergence of the full-size logits at temperature 1.

The authors' mean is over classes too, hence a weight of one in 19.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes_fasterseg import *
    from ..._base_.models.fasterseg_supervision import supervision
    from ..._base_.schedules.cityscapes_fasterseg import *

from segkd.distiller import Distiller
from segkd.losses.kd import PixelwiseKD
from segkd.models.fasterseg import FasterSeg, FasterSegTeacher

model = dict(
    type=Distiller,
    student=dict(type=FasterSeg, num_classes=19),
    teacher=dict(
        type=FasterSegTeacher,
        num_classes=19,
        weights="work/teachers/cityscapes/fasterseg_teacher/student_best.pth",
    ),
    supervision=supervision,
    binds=dict(
        pixel=dict(student="", teacher="", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1 / 19),
    ),
)
