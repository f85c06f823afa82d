"""Fast-SCNN on CamVid taught by the published ESPNet: intra-class feature variation (IFV).

CIRKD's weight 20 on all pixels, of which nine tenths are labelled in Cityscapes.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.ifvd import IntraClassVariation

model.update(
    binds=dict(
        variation=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=IntraClassVariation, num_classes=11),
            weight=18.0,
        ),
    )
)
