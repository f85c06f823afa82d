"""Fast-SCNN on CamVid taught by the published ESPNet: pixel-wise KD and CWD on the logits, on a CPU.

Void and padding take no part: a teacher's answer there is noise. Both weights are 1, ours (CWD's published: 3).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.cwd import ChannelWise
from segkd.losses.kd import PixelwiseKD

model.update(
    binds=dict(
        pixel=dict(student="", teacher="", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0, masked=True),
        channel=dict(student="", teacher="", loss=dict(type=ChannelWise, temperature=4.0), weight=1.0, masked=True),
    )
)
