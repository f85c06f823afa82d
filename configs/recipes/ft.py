"""Factor transfer (Kim et al. 2018) of the head's last feature; the paraphraser learns first.

The authors' weight 500 on factors of 32 x 8 x 8, for this file's mean. The first stage takes half as long as the main
training, on CamVid and Cityscapes 30 epochs as in RepDistiller, by AdamW at 1e-3 (RepDistiller: SGD).
"""

from torch.optim import AdamW

from segkd.losses.ft import FactorTransfer

binds = dict(
    factors=dict(
        student="@head",
        teacher="@head",
        loss=dict(type=FactorTransfer),
        weight=11.0,
        first_stage=dict(steps=0.5, optimizer=dict(type=AdamW, lr=1e-3)),
    ),
)
on = dict(
    camvid=dict(binds=dict(factors=dict(first_stage=dict(steps=1380 / 2750)))),
    cityscapes=dict(binds=dict(factors=dict(first_stage=dict(steps=7440 / 80000)))),
)
