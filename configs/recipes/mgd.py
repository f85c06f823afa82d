"""Masked generative distillation (Yang et al. 2022) of the backbone's last feature.

Published alpha 2e-5 on a sum over 2048 x 64 x 128, for this file's mean, on features brought to an rms of 1; the block
learns at a tenth of the student's rate: at all of it, its ReLUs died within 40 steps.
"""

from segkd.connectors import Conv1x1
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
)
