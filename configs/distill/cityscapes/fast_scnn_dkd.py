"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: decoupled KD on the logits.

Published for classification, with a warm-up of 1 of 100 epochs or 20 of 240; here 1,000 of 80,000 steps.
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
