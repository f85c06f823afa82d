"""Fast-SCNN on CamVid taught by the published ESPNet: cross-image relations (CIRKD), mini-batch and memory.

Published weights 1, 0.1 and 0.1. CamVid has an eighth of Cityscapes' images: the pixel memory holds a tenth.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.cirkd import CrossImageRelational

model.update(
    binds=dict(
        relations=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=CrossImageRelational, num_classes=11, pixel_memory_size=2000),
            weight=1.0,
        ),
    )
)
