"""BiSeNet V2 alone on Cityscapes, as github.com/CoinCheung/BiSeNet trains it: crops of 512 x 1024, batch 16.

That repository starts from ImageNet weights of its own, this config from nothing. It varies brightness, contrast and
saturation by 0.4, this config by 0.3, and the hue a little.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.bisenetv2_supervision import supervision
    from ..._base_.schedules.bisenetv2 import *

from segkd.models.bisenetv2 import BiSeNetV2
from segkd.segmentor import Segmentor

data["augment"].update(scale=(0.25, 2.0))
data.update(batch_size=16)
model = dict(type=Segmentor, network=dict(type=BiSeNetV2, num_classes=19), supervision=supervision)
