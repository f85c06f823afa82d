"""FasterSeg's teacher on Cityscapes, with the authors' schedule."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes_fasterseg import *
    from ..._base_.models.fasterseg_teacher_supervision import supervision
    from ..._base_.schedules.cityscapes_fasterseg import *

from segkd.models.fasterseg import FasterSegTeacher
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FasterSegTeacher, num_classes=19), supervision=supervision)
