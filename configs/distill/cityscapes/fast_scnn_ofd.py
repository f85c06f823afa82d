"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: the overhaul of feature distillation.

The authors' weight for the decoder's tap, 1e-5 / 16 on a sum over 256 x 129 x 129, for this file's mean.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.connectors import Conv1x1
from segkd.losses.ofd import Overhaul

model.update(
    binds=dict(
        overhaul=dict(
            student="head.1.1.1",
            teacher="decoder.block2.1",
            loss=dict(type=Overhaul),
            weight=2.66,
            connector=dict(type=Conv1x1, norm=True),
            lr_factor=10.0,
        ),
    )
)
