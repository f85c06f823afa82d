"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: masked generative distillation.

Published alpha 2e-5 on a sum over 2048 x 64 x 128, for this file's mean.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.connectors import Conv1x1
from segkd.losses.mgd import MaskedGenerative

model.update(
    binds=dict(
        generation=dict(
            student="fusion",
            teacher="decoder.aspp",
            loss=dict(type=MaskedGenerative),
            weight=335.5,
            connector=dict(type=Conv1x1, bias=True),
        ),
    )
)
