"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: contrastive representations of class regions.

Weight as published for classification.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.crd import ContrastiveRepresentation

model.update(
    binds=dict(
        contrast=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=ContrastiveRepresentation, n_data=2975, num_classes=19),
            weight=0.8,
        ),
    )
)
