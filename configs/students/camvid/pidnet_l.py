"""PIDNet-L alone on CamVid at 480 x 360, from scratch: its Cityscapes recipe, 400 epochs, no class weights.

No CamVid recipe is published for this size of PIDNet.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid_hrnet import *
    from ..._base_.models.pidnet_l_supervision import supervision
    from ..._base_.schedules.camvid_hrnet import *

from segkd.models.pidnet import PIDNetL
from segkd.segmentor import Segmentor

supervision["boundary"]["loss"].update(border=0)  # as published: only Cityscapes' edges stay away from the border

model = dict(type=Segmentor, network=dict(type=PIDNetL, num_classes=11), supervision=supervision)
