"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: Af-DCD beside KD, as published.

Published weights, without the clipping, as in ``fast_scnn_af_dcd``.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.connectors import Conv1x1
from segkd.losses.af_dcd import DenseContrastive
from segkd.losses.kd import PixelwiseKD

model.update(
    binds=dict(
        pixel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=1.0,
        ),
        contrast=dict(
            student="fusion",
            teacher="decoder.aspp",
            loss=dict(type=DenseContrastive),
            weight=1.0,
            connector=dict(type=Conv1x1, bias=True),
        ),
    )
)
