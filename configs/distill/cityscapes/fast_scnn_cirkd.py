"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: cross-image relations (CIRKD), mini-batch and memory.

Published weights 1, 0.1 and 0.1.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.cirkd import CrossImageRelational

model.update(
    binds=dict(
        relations=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=CrossImageRelational, num_classes=19),
            weight=1.0,
        ),
    )
)
