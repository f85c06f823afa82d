"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: augmentation-free dense contrastive distillation (Af-DCD).

Published weights, converted by the loss; the authors clip its gradient at 15, apart from the student's: left out.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.connectors import Conv1x1
from segkd.losses.af_dcd import DenseContrastive

model.update(
    binds=dict(
        contrast=dict(
            student="fusion",
            teacher="decoder.aspp",
            loss=dict(type=DenseContrastive),
            weight=1.0,
            connector=dict(type=Conv1x1, bias=True),
        ),
    )
)
