"""Fast-SCNN on CamVid taught by the published ESPNet: hints to its head.

CIRKD's weight. The teacher's features have an rms of 0.045; scaled to about 1, near a DeepLabV3+'s (0.5 to 1.6).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.connectors import Conv1x1
from segkd.losses.fitnet import FitNet

model.update(
    binds=dict(
        hint=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=FitNet),
            weight=10.0,
            teacher_scale=22.0,
            connector=dict(type=Conv1x1),
        ),
    )
)
