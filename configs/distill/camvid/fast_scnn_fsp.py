"""Fast-SCNN on CamVid taught by the published ESPNet: the flow of solution procedure as an initialisation.

Published as a first stage that starts the student: the term has no weight afterwards.
The teacher's features have an rms of 0.046 and are scaled to about 1: as they are, the student's matrices are still 13
times theirs after 80 steps.
The first stage takes 30 epochs as in RepDistiller, by AdamW at 1e-3 (RepDistiller: SGD).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from torch.optim import AdamW

from segkd.connectors import Conv1x1
from segkd.losses.fsp import FlowOfSolution

model.update(
    binds=dict(
        flow=dict(
            student=["learning_to_downsample", "fusion"],
            teacher=["encoder.down3", "encoder.stage3"],
            loss=dict(type=FlowOfSolution),
            weight=0.0,
            teacher_scale=22.0,
            connector=dict(type=Conv1x1),
            first_stage=dict(steps=1380, optimizer=dict(type=AdamW, lr=1e-3)),
        ),
    )
)
