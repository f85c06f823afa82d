"""STDC1-Seg alone on Cityscapes, as its authors train it: crops of 512 x 1024, batch 48, 60,000 steps, detail guidance.

They start from ImageNet weights of their own encoder; here the start is random unless ``model.network.weights`` names a
file. Their scale is drawn from 0.125, 0.25, .. 1.5, and what is then smaller than the crop is enlarged to it, so that
none is below 0.5: here it is uniform from 0.5. They vary brightness, contrast and saturation by 0.5, this config by
0.3, and the hue a little.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.stdc_supervision import supervision
    from ..._base_.schedules.stdc import *

from segkd.models.stdc import STDC1
from segkd.segmentor import Segmentor

data["augment"].update(scale=(0.5, 1.5))
data.update(batch_size=48)
model = dict(type=Segmentor, network=dict(type=STDC1, num_classes=19), supervision=supervision)
