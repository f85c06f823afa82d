"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: cross-image relations beside KD, as published.

Published weights.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.cirkd import CrossImageRelational
from segkd.losses.kd import PixelwiseKD

model.update(
    binds=dict(
        pixel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=1.0,
        ),
        relations=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=CrossImageRelational, num_classes=19),
            weight=1.0,
        ),
    )
)
