"""BiSeNet V2 alone on CamVid at 480 x 360, from scratch: its Cityscapes recipe, 400 epochs, CamVid's scales.

The code that this follows has no recipe for CamVid.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.bisenetv2_supervision import supervision
    from ..._base_.schedules.bisenetv2 import *

from segkd.models.bisenetv2 import BiSeNetV2
from segkd.segmentor import Segmentor

data.update(batch_size=16, workers=8)
schedule.update(steps=9200, val_interval=460, warmup=200)
model = dict(type=Segmentor, network=dict(type=BiSeNetV2, num_classes=11), supervision=supervision)
