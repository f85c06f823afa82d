"""Af-DCD beside KD, as published (Fan et al. 2023).

Published weights without the clipping, on CamVid theirs for it, as in ``af_dcd``.
"""

from segkd.connectors import Conv1x1
from segkd.losses.af_dcd import DenseContrastive
from segkd.losses.kd import PixelwiseKD

binds = dict(
    pixel=dict(student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0),
    contrast=dict(
        student="@backbone",
        teacher="@backbone",
        loss=dict(type=DenseContrastive),
        weight=1.0,
        connector=dict(type=Conv1x1, bias=True),
    ),
)
on = dict(
    camvid=dict(
        binds=dict(
            contrast=dict(loss=dict(pool_size=1, lambda_fd=33.2, lambda_ocd=0.16), teacher_scale=1.0),
        )
    ),
    cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))),
)
