"""Fast-SCNN on CamVid taught by the published ESPNet: Af-DCD beside KD, as published.

The authors' weights for CamVid, those of Af-DCD as in ``fast_scnn_af_dcd``.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.connectors import Conv1x1
from segkd.losses.af_dcd import DenseContrastive
from segkd.losses.kd import PixelwiseKD

model.update(
    binds=dict(
        pixel=dict(
            student="",
            teacher="",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=1.0,
        ),
        contrast=dict(
            student="fusion",
            teacher="encoder.join3",
            loss=dict(type=DenseContrastive, pool_size=1, lambda_fd=33.2, lambda_ocd=0.16),
            weight=1.0,
            teacher_scale=1.0,
            connector=dict(type=Conv1x1, bias=True),
        ),
    )
)
