"""150,000 steps of SGD with polynomial decay, as github.com/CoinCheung/BiSeNet trains V2 on Cityscapes, for GPUs.

The heads learn ten times as fast; BatchNorm and biases do not decay. The warm-up is linear from a hundredth of the
learning rate, there exponential from a tenth.
"""

from torch.optim import SGD

schedule = dict(steps=150000, val_interval=10000, warmup=1000, power=0.9)
_heads = ["student.head", "student.classifier", "supervision."]
_undecayed = [
    "student.head.1", "student.classifier.bias",
    "supervision.heads.aux2.conv.1", "supervision.heads.aux2.expand.1", "supervision.heads.aux2.classifier.bias",
    "supervision.heads.aux3.conv.1", "supervision.heads.aux3.expand.1", "supervision.heads.aux3.classifier.bias",
    "supervision.heads.aux4.conv.1", "supervision.heads.aux4.expand.1", "supervision.heads.aux4.classifier.bias",
    "supervision.heads.aux5.conv.1", "supervision.heads.aux5.expand.1", "supervision.heads.aux5.classifier.bias",
]  # fmt: skip
optim = dict(
    optimizer=dict(type=SGD, lr=0.005, momentum=0.9, weight_decay=5e-4),
    paramwise=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            **{part: dict(lr_mult=10.0) for part in _heads},
            **{part: dict(lr_mult=10.0, decay_mult=0.0) for part in _undecayed},
        },
    ),
)
engine = dict(precision="auto", channels_last=True)
seed = 0
