"""60,000 steps of SGD with polynomial decay, as STDC-Seg's authors train on Cityscapes, for GPUs.

Fusion and heads learn ten times as fast; BatchNorm does not decay. The warm-up is linear from a hundredth of the
learning rate, there exponential from a thousandth. (Their code gives the encoder's BatchNorm to no optimiser: its scale
and shift stay those of ImageNet. Here they learn.)
"""

from torch.optim import SGD

schedule = dict(steps=60000, val_interval=6000, warmup=1000, power=0.9)
_new = ["student.fusion", "student.head", "student.classifier", "supervision."]
_undecayed = [
    "student.fusion.conv.1", "student.head.1", "supervision.heads.aux16.norm", "supervision.heads.aux8.norm",
    "supervision.heads.detail.norm",
]  # fmt: skip
optim = dict(
    optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            **{part: dict(lr_mult=10.0) for part in _new},
            **{part: dict(lr_mult=10.0, decay_mult=0.0) for part in _undecayed},
        },
    ),
)
engine = dict(precision="auto", channels_last=True)
seed = 0
