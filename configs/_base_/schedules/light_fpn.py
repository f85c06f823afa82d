"""PoolFormer's and EfficientFormer's schedule for a light backbone under a pyramid decoder.

AdamW with learning rate 2e-4 and weight decay 1e-4, polynomial decay of power 0.9, no warm-up. Both publish 40,000
steps of batch 32 on ADE20K; here they are 80,000 of batch 16.
"""

from torch.optim import AdamW

schedule = dict(steps=80000, val_interval=8000, warmup=0, power=0.9)
optim = dict(optimizer=dict(type=AdamW, lr=2e-4, weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
