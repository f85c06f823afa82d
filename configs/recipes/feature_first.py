"""Features first without labels, then labels without a teacher: in the order of GKD (arXiv:2603.02554).

The first stage, half as long as the main training, brings the backbone's last feature to the teacher's, at an rms of 1,
by mean squared error through a 1x1 convolution; then the term has no weight. GKD freezes its encoder in the second
stage; here all of the student learns on. Stage and optimiser are ours.
"""

from torch.optim import AdamW

from segkd.connectors import Conv1x1
from segkd.losses.fitnet import FitNet

binds = dict(
    feature=dict(
        student="@backbone",
        teacher="@backbone",
        loss=dict(type=FitNet),
        weight=0.0,
        teacher_scale="auto",
        connector=dict(type=Conv1x1),
        first_stage=dict(steps=0.5, optimizer=dict(type=AdamW, lr=1e-3)),
    ),
)
