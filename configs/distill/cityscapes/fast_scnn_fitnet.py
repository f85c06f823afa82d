"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: hints to its head.

CIRKD's weight.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.connectors import Conv1x1
from segkd.losses.fitnet import FitNet

model.update(
    binds=dict(
        hint=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=FitNet),
            weight=10.0,
            connector=dict(type=Conv1x1),
        ),
    )
)
