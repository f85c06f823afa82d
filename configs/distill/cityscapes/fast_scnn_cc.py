"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: correlation congruence of pixels.

The weight published for classification, 0.003, has no effect on pixels; 1 gives a hundredth of the labels' gradient.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.cc import CorrelationCongruence

model.update(
    binds=dict(
        correlation=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=CorrelationCongruence),
            weight=1.0,
        ),
    )
)
