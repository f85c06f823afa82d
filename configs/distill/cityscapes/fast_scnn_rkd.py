"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: relations of pixels.

Weights 25 (distances) and 50 (angles) as published for classification.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.rkd import RelationalKD

model.update(
    binds=dict(
        relations=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=RelationalKD),
            weight=1.0,
        ),
    )
)
