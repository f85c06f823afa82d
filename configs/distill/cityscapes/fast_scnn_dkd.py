"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: decoupled KD on the logits.

Published for classification, with this warm-up.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.dkd import DecoupledKD

model.update(
    binds=dict(
        logits=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=DecoupledKD),
            weight=1.0,
            schedule=dict(warmup=1000),
        ),
    )
)
