"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: factor transfer.

The paraphraser learns first. The authors' weight 500 on factors of 32 x 8 x 8, for this file's mean.
The first stage takes 30 epochs as in RepDistiller, by AdamW at 1e-3 (RepDistiller: SGD).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from torch.optim import AdamW

from segkd.losses.ft import FactorTransfer

model.update(
    binds=dict(
        factors=dict(
            student="fusion",
            teacher="decoder.aspp",
            loss=dict(type=FactorTransfer),
            weight=11.0,
            first_stage=dict(steps=7440, optimizer=dict(type=AdamW, lr=1e-3)),
        ),
    )
)
