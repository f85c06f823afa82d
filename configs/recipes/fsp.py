"""The flow of solution procedure (Yim et al. 2017) from an early stage to the head, as an initialisation.

From the third last stage, as every network has three, to the head's last feature: what the deep stages and the context
between them do. Published as a first stage that starts the student: the term has no weight afterwards. It takes half as
long as the main training, on CamVid and Cityscapes 30 epochs as in RepDistiller, by AdamW at 1e-3 (RepDistiller: SGD).
The teacher's features are brought to an rms of 1: of one of 0.046, as it was, the student's matrices were still 13
times its own after 80 steps. On Cityscapes they are taken as they are.
"""

from torch.optim import AdamW

from segkd.connectors import Conv1x1
from segkd.losses.fsp import FlowOfSolution

binds = dict(
    flow=dict(
        student=["@stages[-3]", "@head"],
        teacher=["@stages[-3]", "@head"],
        loss=dict(type=FlowOfSolution),
        weight=0.0,
        teacher_scale="auto",
        connector=dict(type=Conv1x1),
        first_stage=dict(steps=0.5, optimizer=dict(type=AdamW, lr=1e-3)),
    ),
)
on = dict(
    camvid=dict(binds=dict(flow=dict(first_stage=dict(steps=1380 / 2750)))),
    cityscapes=dict(binds=dict(flow=dict(teacher_scale=None, first_stage=dict(steps=7440 / 80000)))),
)
