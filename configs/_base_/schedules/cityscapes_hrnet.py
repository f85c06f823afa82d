"""484 epochs of Cityscapes at batch 12, as DDRNet and PIDNet train (HRNet's code), for GPUs."""

from torch.optim import SGD

schedule = dict(steps=119548, val_interval=9196, power=0.9)  # 247 full batches an epoch
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
