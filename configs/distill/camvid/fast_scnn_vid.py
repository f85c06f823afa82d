"""Fast-SCNN on CamVid taught by the published ESPNet: variational information distillation.

Weight as for classification; there is none published for segmentation.
The teacher's features have an rms of 0.045; scaled to about 1, as their variance starts at 5 here.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.vid import VID

model.update(
    binds=dict(
        information=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=VID),
            weight=1.0,
            teacher_scale=22.0,
        ),
    )
)
