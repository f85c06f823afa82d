"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: SKD's pair-wise term.

Pooling and weight of the authors' script.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.skd_pair import PairWise

model.update(
    binds=dict(
        pair=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=PairWise, pool=("scale", 0.5)),
            weight=0.5,
        ),
    )
)
