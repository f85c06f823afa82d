"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: masked generative distillation.

Published alpha 2e-5 on a sum over 2048 x 64 x 128, for this file's mean. The block learns at a tenth of the student's
rate: at all of it, its ReLUs died within 40 steps (on synthetic streets, where the term pulled 5 to 24 times as hard as
the labels; a weight of 10 brings it near them, as the authors advise in issue 2 of their code).
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
            lr_factor=0.1,
            connector=dict(type=Conv1x1, bias=True),
        ),
    )
)
