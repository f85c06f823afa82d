"""Fast-SCNN on CamVid taught by the published ESPNet: KD on standardised logits.

Published for classification, with temperature 2 and weight 9.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.kd import PixelwiseKD
from segkd.losses.logit_standardization import LogitStandardization

model.update(
    binds=dict(
        logits=dict(
            student="",
            teacher="",
            loss=dict(type=LogitStandardization, loss=dict(type=PixelwiseKD, temperature=2.0)),
            weight=9.0,
        ),
    )
)
