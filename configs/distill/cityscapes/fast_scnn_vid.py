"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: variational information distillation.

Weight as for classification; there is none published for segmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.vid import VID

model.update(
    binds=dict(
        information=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=VID),
            weight=1.0,
        ),
    )
)
