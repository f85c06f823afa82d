"""Augmentation-free dense contrastive distillation (Fan et al. 2023) of the backbone's last feature.

Published weights, converted by the loss; the authors clip its gradient at 15, apart from the student's: left out. On
CamVid theirs for it, converted: 8e-6 at 2048 x 45 x 45, and 0.01 * 16; no pooling there. The teacher's features, of an
rms of 0.045 there, are taken as they are: scaled to about 1, the term's gradient was 8 to 13 times the labels' at the
layer that they share (as they are, 3 to 6 %).
"""

from segkd.connectors import Conv1x1
from segkd.losses.af_dcd import DenseContrastive

binds = dict(
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
    )
)
