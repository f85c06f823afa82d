"""Fast-SCNN alone on ADE20K, with the published optimiser (SGD, lr 0.045, weight decay 4e-5, polynomial decay)."""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.ade20k import *
    from ..._base_.models.fast_scnn_supervision import supervision
    from ..._base_.schedules.gpu_80k import *

from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=FastSCNN, num_classes=150), supervision=supervision)
