"""DDRNet-23 alone on Cityscapes: 484 epochs of SGD on crops of 1024 x 1024, with hard pixel mining.

The authors ask for these crops and hard pixels; the rest is that of ports, as their training code is not public. All
start from ImageNet weights; here the start is random unless ``model.network.weights`` names a file.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes_hrnet import *
    from ..._base_.models.ddrnet23_supervision import supervision
    from ..._base_.schedules.cityscapes_hrnet import *

from segkd.models.ddrnet import DDRNet23
from segkd.segmentor import Segmentor

for _term in ("main", "aux"):
    supervision[_term]["loss"].update(class_weight=class_weight)
model = dict(type=Segmentor, network=dict(type=DDRNet23, num_classes=19), supervision=supervision)
