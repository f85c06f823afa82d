"""DDRNet-23-slim alone on CamVid at 480 x 360, from scratch: its Cityscapes recipe, 400 epochs, no class weights.

No CamVid recipe is part of the authors' code; their results are for 960 x 720.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid_hrnet import *
    from ..._base_.models.ddrnet23_slim_supervision import supervision
    from ..._base_.schedules.camvid_hrnet import *

from segkd.models.ddrnet import DDRNet23Slim
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=DDRNet23Slim, num_classes=11), supervision=supervision)
