"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: pixel-wise KD and CWD on the logits.

Void and padding take no part: a teacher's answer there is noise.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.cwd import ChannelWise
from segkd.losses.kd import PixelwiseKD

model.update(
    binds=dict(
        pixel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=1.0,
            masked=True,
        ),
        channel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=ChannelWise, temperature=4.0),
            weight=3.0,
            masked=True,
        ),
    )
)
