"""DeepLabV3+ with a ResNet-18 encoder on CamVid, from scratch, on a GPU."""

from mmengine.config import read_base

with read_base():
    from .deeplabv3plus_r18 import *
    from ..._base_.schedules.camvid_gpu import *

data.update(batch_size=16, workers=8)
