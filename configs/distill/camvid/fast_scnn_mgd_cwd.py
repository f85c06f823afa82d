"""Fast-SCNN on CamVid taught by the published ESPNet: masked generative distillation beside CWD, as published.

Published weights, converted to means; MGD's scale as in ``fast_scnn_mgd``.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.connectors import Conv1x1
from segkd.losses.cwd import ChannelWise
from segkd.losses.mgd import MaskedGenerative

model.update(
    binds=dict(
        generation=dict(
            student="fusion",
            teacher="encoder.join3",
            loss=dict(type=MaskedGenerative),
            weight=0.69,
            teacher_scale=22.0,
            connector=dict(type=Conv1x1, bias=True),
        ),
        channel=dict(
            student="",
            teacher="",
            loss=dict(type=ChannelWise, temperature=4.0),
            weight=3.0,
        ),
    )
)
