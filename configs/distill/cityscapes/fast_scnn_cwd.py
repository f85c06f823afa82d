"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: channel-wise distillation of the logits.

Published temperature and weight.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.cwd import ChannelWise

model.update(
    binds=dict(
        channel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=ChannelWise, temperature=4.0),
            weight=3.0,
        ),
    )
)
