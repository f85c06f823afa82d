"""Fast-SCNN alone on CamVid, on a CPU."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.fast_scnn_supervision import supervision
    from ..._base_.schedules.camvid_cpu import *

from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FastSCNN, num_classes=11), supervision=supervision)
