"""Masked generative distillation (Yang et al. 2022) of the backbone's last feature.

Published alpha 2e-5 on a sum over 2048 x 64 x 128, for this file's mean: 335.5 on features as they are, which is used
on Cityscapes. Elsewhere they are brought to an rms of 1, and the weight is 335.5 / 22^2: the term is then near the
labels' in size, as the authors advise (issue 2 of their code). The block learns at a tenth of the student's rate: at
all of it, its ReLUs died within 40 steps of SGD at 0.045. On CamVid, where AdamW is slower, it learns at all of it.
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
on = dict(
    cityscapes=dict(binds=dict(generation=dict(weight=335.5, teacher_scale=None))),
    camvid=dict(binds=dict(generation=dict(lr_factor=1.0))),
)
