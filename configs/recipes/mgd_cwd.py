"""Masked generative distillation beside CWD of the logits, as published (Yang et al. 2022).

Published weights, converted to means; MGD's weight, scale and rate as in ``mgd``.
"""

from segkd.connectors import Conv1x1
from segkd.losses.cwd import ChannelWise
from segkd.losses.mgd import MaskedGenerative

binds = dict(
    generation=dict(
        student="@backbone",
        teacher="@backbone",
        loss=dict(type=MaskedGenerative),
        weight=0.69,
        teacher_scale="auto",
        connector=dict(type=Conv1x1, bias=True),
        lr_factor=0.1,
    ),
    channel=dict(student="@logits", teacher="@logits", loss=dict(type=ChannelWise, temperature=4.0), weight=3.0),
)
on = dict(
    cityscapes=dict(
        binds=dict(
            generation=dict(weight=335.5, teacher_scale=None),
            channel=dict(student="@classifier", teacher="@classifier"),
        )
    ),
    camvid=dict(binds=dict(generation=dict(lr_factor=1.0))),
)
