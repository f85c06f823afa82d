"""400 epochs of CamVid at batch 12, otherwise as ``cityscapes_hrnet``."""

from torch.optim import SGD

schedule = dict(steps=12200, val_interval=610, power=0.9)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
