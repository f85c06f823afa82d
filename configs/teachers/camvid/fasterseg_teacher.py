"""FasterSeg's teacher on CamVid at 480 x 360, with its Cityscapes recipe."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid_fasterseg import *
    from ..._base_.models.fasterseg_teacher_supervision import supervision
    from ..._base_.schedules.camvid_fasterseg import *

from segkd.models.fasterseg import FasterSegTeacher
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FasterSegTeacher, num_classes=11), supervision=supervision)
