"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: intra-class feature variation (IFV).

CIRKD's weight 20 on all pixels, of which nine tenths are labelled.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.ifvd import IntraClassVariation

model.update(
    binds=dict(
        variation=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=IntraClassVariation, num_classes=19),
            weight=18.0,
        ),
    )
)
