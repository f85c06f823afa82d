"""Plain feature distillation with a long schedule, as of arXiv:2604.25530: no more than an error of features.

The backbone's last feature through a 1x1 convolution, against the teacher's at an rms of 1, by mean squared error. The
length, 800 epochs, is ours: the plain term is cheap, and at equal time it was ahead of elaborate ones there. So is the
weight: half of FitNet's, which pulled twice as hard as the labels on CamVid.
"""

from segkd.connectors import Conv1x1
from segkd.losses.fitnet import FitNet

binds = dict(
    feature=dict(
        student="@backbone",
        teacher="@backbone",
        loss=dict(type=FitNet),
        weight=5.0,
        teacher_scale="auto",
        connector=dict(type=Conv1x1),
    ),
)
schedule = dict(epochs=800)
