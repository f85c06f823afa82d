"""Fast-SCNN alone on CamVid, on a GPU."""

from mmengine.config import read_base

with read_base():
    from .fast_scnn import *
    from ..._base_.schedules.camvid_gpu import *

data.update(batch_size=16, workers=8)
