"""Fast-SCNN on CamVid taught by the published ESPNet: decoupled KD on the logits.

Published for classification, with a warm-up of 1 of 100 epochs or 20 of 240; here 100 of 2,750 steps.
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
