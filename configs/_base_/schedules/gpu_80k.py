"""80,000 steps with SGD and polynomial decay, for a GPU."""

from torch.optim import SGD

schedule = dict(steps=80000, val_interval=8000, warmup=1000, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.045, momentum=0.9, weight_decay=4e-5))
engine = dict(precision="auto", channels_last=True)
seed = 0
