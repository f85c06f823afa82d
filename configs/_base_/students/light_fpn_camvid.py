"""What CamVid's configs of light backbones share: the decoder, the schedule, a batch of 16."""

from mmengine.config import read_base

with read_base():
    from ..data.camvid import *
    from ..schedules.light_fpn_camvid import *

from segkd.models.light_fpn import LightFPN
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=LightFPN, num_classes=11, pretrained=False))
data.update(batch_size=16)
