"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: masked generative distillation beside CWD, as published.

Published weights, converted to means; the block's rate as in ``fast_scnn_mgd``.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.connectors import Conv1x1
from segkd.losses.cwd import ChannelWise
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
        channel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=ChannelWise, temperature=4.0),
            weight=3.0,
        ),
    )
)
