"""Fast-SCNN on CamVid taught by the published ESPNet: channel-wise distillation of the logits.

Published temperature and weight.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.cwd import ChannelWise

model.update(
    binds=dict(
        channel=dict(
            student="",
            teacher="",
            loss=dict(type=ChannelWise, temperature=4.0),
            weight=3.0,
        ),
    )
)
