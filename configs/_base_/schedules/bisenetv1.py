"""80,000 steps of SGD with polynomial decay, as BiSeNet's authors train on Cityscapes (TorchSeg), for GPUs.

All but the ResNet learns ten times as fast; BatchNorm and biases do not decay.
"""

from torch.optim import SGD

schedule = dict(steps=80000, val_interval=8000, power=0.9)
_new = ["student.spatial", "student.context", "student.fusion", "student.head", "student.classifier", "supervision."]
_undecayed = [
    "student.spatial.0.1", "student.spatial.1.1", "student.spatial.2.1", "student.spatial.3.1",
    "student.context.pool.1.1", "student.context.up16.1", "student.context.up8.1",
    "student.context.refine32.conv.1", "student.context.refine32.gate.1.1",
    "student.context.refine16.conv.1", "student.context.refine16.gate.1.1",
    "student.fusion.conv.1", "student.fusion.gate.1.1", "student.head.1", "student.classifier.bias",
    "supervision.heads.aux16.norm", "supervision.heads.aux16.classifier.bias",
    "supervision.heads.aux8.norm", "supervision.heads.aux8.classifier.bias",
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
