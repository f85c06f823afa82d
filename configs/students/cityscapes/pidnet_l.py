"""PIDNet-L alone on Cityscapes, as published: 484 epochs of SGD on crops of 1024 x 1024, with the boundary losses.

The authors start from ImageNet weights; here the start is random unless ``model.network.weights`` names a file.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes_hrnet import *
    from ..._base_.models.pidnet_l_supervision import supervision
    from ..._base_.schedules.cityscapes_hrnet import *

from segkd.models.pidnet import PIDNetL
from segkd.segmentor import Segmentor

for _term in ("main", "detail"):
    supervision[_term]["loss"].update(class_weight=class_weight)
supervision["boundary_aware"]["loss"]["loss"].update(class_weight=class_weight)
model = dict(type=Segmentor, network=dict(type=PIDNetL, num_classes=19), supervision=supervision)
