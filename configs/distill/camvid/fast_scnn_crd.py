"""Fast-SCNN on CamVid taught by the published ESPNet: contrastive representations of class regions.

Weight as published for classification.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.crd import ContrastiveRepresentation

model.update(
    binds=dict(
        contrast=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=ContrastiveRepresentation, n_data=367, num_classes=11),
            weight=0.8,
        ),
    )
)
