"""STDC1-Seg alone on CamVid at 480 x 360, from scratch: its Cityscapes recipe, 400 epochs, CamVid's scales.

The authors' code has no recipe for CamVid.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.stdc_supervision import supervision
    from ..._base_.schedules.stdc import *

from segkd.models.stdc import STDC1
from segkd.segmentor import Segmentor

data.update(batch_size=16, workers=8)
schedule.update(steps=9200, val_interval=460, warmup=200)
model = dict(type=Segmentor, network=dict(type=STDC1, num_classes=11), supervision=supervision)
