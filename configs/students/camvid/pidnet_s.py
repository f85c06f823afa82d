"""PIDNet-S alone on CamVid at 480 x 360, from scratch: its Cityscapes recipe, 400 epochs, no class weights.

The published CamVid results come from Cityscapes weights, tuned on 960 x 720 (train and val) with lr 0.005 that decays
over 200 epochs, of which 121 are run.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid_hrnet import *
    from ..._base_.models.pidnet_s_supervision import supervision
    from ..._base_.schedules.camvid_hrnet import *

from segkd.models.pidnet import PIDNetS
from segkd.segmentor import Segmentor

supervision["boundary"]["loss"].update(border=0)  # as published: only Cityscapes' edges stay away from the border

model = dict(type=Segmentor, network=dict(type=PIDNetS, num_classes=11), supervision=supervision)
