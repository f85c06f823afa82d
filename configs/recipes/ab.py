"""Activation boundaries (Heo et al. 2019) of the head's last feature, before its ReLU, as an initialisation.

Published as a first stage that starts the student: the term has no weight afterwards. The first stage takes half as
long as the main training, on CamVid and Cityscapes 30 epochs as in RepDistiller, by AdamW at 1e-3 (RepDistiller: SGD).
"""

from torch.optim import AdamW

from segkd.connectors import Conv1x1
from segkd.losses.ab import ActivationBoundaries

binds = dict(
    boundaries=dict(
        student="@head_preact",
        teacher="@head_preact",
        loss=dict(type=ActivationBoundaries),
        weight=0.0,
        connector=dict(type=Conv1x1, norm=True),
        first_stage=dict(steps=0.5, optimizer=dict(type=AdamW, lr=1e-3)),
    ),
)
on = dict(
    camvid=dict(binds=dict(boundaries=dict(first_stage=dict(steps=1380 / 2750)))),
    cityscapes=dict(binds=dict(boundaries=dict(first_stage=dict(steps=7440 / 80000)))),
)
