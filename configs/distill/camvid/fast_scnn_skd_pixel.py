"""Fast-SCNN on CamVid taught by the published ESPNet: SKD's pixel-wise term.

Published weight 10 on a sum over a batch of 8.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.skd_pixel import SKDPixel

model.update(
    binds=dict(
        pixel=dict(
            student="",
            teacher="",
            loss=dict(type=SKDPixel),
            weight=80.0,
        ),
    )
)
