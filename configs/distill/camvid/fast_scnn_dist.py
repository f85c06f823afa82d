"""Fast-SCNN on CamVid taught by the published ESPNet: DIST on the logits.

Published weight; the 0.4 on auxiliary heads is left out, as teacher and student have different ones.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.dist import StrongerTeacher

model.update(
    binds=dict(
        logits=dict(
            student="",
            teacher="",
            loss=dict(type=StrongerTeacher),
            weight=1.0,
        ),
    )
)
