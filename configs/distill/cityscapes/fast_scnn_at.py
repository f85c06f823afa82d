"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: attention transfer.

CIRKD's weight 10000 on a mean over 64 x 128 positions, for this file's sum over them.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.at import AttentionTransfer

model.update(
    binds=dict(
        attention=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=AttentionTransfer),
            weight=1.22,
        ),
    )
)
