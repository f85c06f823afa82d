"""Decoupled KD of the logits (Zhao et al. 2022).

Published for classification, with a warm-up of 1 of 100 epochs or 20 of 240; here of an eightieth of the training.
"""

from segkd.losses.dkd import DecoupledKD

binds = dict(
    logits=dict(
        student="@logits",
        teacher="@logits",
        loss=dict(type=DecoupledKD),
        weight=1.0,
        schedule=dict(warmup=1 / 80),
    ),
)
on = dict(
    cityscapes=dict(binds=dict(logits=dict(student="@classifier", teacher="@classifier"))),
    camvid=dict(binds=dict(logits=dict(schedule=dict(warmup=2 / 55)))),
)
