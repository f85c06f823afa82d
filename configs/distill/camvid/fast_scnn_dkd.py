"""Fast-SCNN on CamVid taught by the published ESPNet: decoupled KD on the logits.

Published for classification, with this warm-up.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.dkd import DecoupledKD

model.update(
    binds=dict(
        logits=dict(
            student="",
            teacher="",
            loss=dict(type=DecoupledKD),
            weight=1.0,
            schedule=dict(warmup=100),
        ),
    )
)
