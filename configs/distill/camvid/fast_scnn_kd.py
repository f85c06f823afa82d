"""Fast-SCNN on CamVid taught by the published ESPNet: pixel-wise KD on the logits."""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.kd import PixelwiseKD

model.update(
    binds=dict(
        pixel=dict(
            student="",
            teacher="",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=1.0,
        ),
    )
)
