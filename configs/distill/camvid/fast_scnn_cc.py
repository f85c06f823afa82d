"""Fast-SCNN on CamVid taught by the published ESPNet: correlation congruence of pixels.

The weight published for classification, 0.003, has no effect on pixels; 1 gives a hundredth of the labels' gradient.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.cc import CorrelationCongruence

model.update(
    binds=dict(
        correlation=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=CorrelationCongruence),
            weight=1.0,
        ),
    )
)
