"""MMSegmentation's schedule for DeepLabV3 on Cityscapes: SGD, 80,000 steps of batch 8, polynomial decay to 1e-4."""

from torch.optim import SGD

schedule = dict(steps=80000, val_interval=8000, warmup=0, power=0.9, min_lr=1e-4)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
