"""SGD as PSPNet's authors' PyTorch code has it: all but the encoder learns 10 times as fast; for GPUs."""

from torch.optim import SGD

_fast = dict(lr_mult=10)
optim = dict(
    optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise=dict(custom_keys={"student.pooling": _fast, "student.classifier": _fast, "supervision.": _fast}),
)
engine = dict(precision="auto", channels_last=True)
seed = 0
