"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: DIST on the logits.

Published weight; the 0.4 on auxiliary heads is left out, as teacher and student have different ones.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.dist import StrongerTeacher

model.update(
    binds=dict(
        logits=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=StrongerTeacher),
            weight=1.0,
        ),
    )
)
