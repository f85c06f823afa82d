"""Fast-SCNN on CamVid taught by the published ESPNet: pixel-wise KD and CWD on the logits, on a GPU."""

from mmengine.config import read_base

with read_base():
    from .fast_scnn_kd_cwd import *
    from ..._base_.schedules.camvid_gpu import *

data.update(batch_size=16, workers=8)
