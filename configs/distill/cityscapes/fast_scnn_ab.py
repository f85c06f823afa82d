"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: activation boundaries as an initialisation.

Published as a first stage that starts the student: the term has no weight afterwards.
The first stage takes 30 epochs as in RepDistiller, by AdamW at 1e-3 (RepDistiller: SGD).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from torch.optim import AdamW

from segkd.connectors import Conv1x1
from segkd.losses.ab import ActivationBoundaries

model.update(
    binds=dict(
        boundaries=dict(
            student="head.1.1.1",
            teacher="decoder.block2.1",
            loss=dict(type=ActivationBoundaries),
            weight=0.0,
            connector=dict(type=Conv1x1, norm=True),
            first_stage=dict(steps=7440, optimizer=dict(type=AdamW, lr=1e-3)),
        ),
    )
)
