"""FitNet's hints (Romero et al. 2015) to the head's last feature, with CIRKD's weight.

The teacher's features are brought to an rms of 1; on Cityscapes they are taken as they are, as published.
"""

from segkd.connectors import Conv1x1
from segkd.losses.fitnet import FitNet

binds = dict(
    hint=dict(
        student="@head",
        teacher="@head",
        loss=dict(type=FitNet),
        weight=10.0,
        teacher_scale="auto",
        connector=dict(type=Conv1x1),
    ),
)
on = dict(cityscapes=dict(binds=dict(hint=dict(teacher_scale=None))))
