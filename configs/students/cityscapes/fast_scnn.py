"""Fast-SCNN alone on Cityscapes, with the published optimiser (SGD, lr 0.045, weight decay 4e-5, polynomial decay)."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.fast_scnn_supervision import supervision
    from ..._base_.schedules.gpu_80k import *

from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FastSCNN, num_classes=19), supervision=supervision)
