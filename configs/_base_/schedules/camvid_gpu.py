"""400 epochs of CamVid at batch 16, for a GPU."""

from torch.optim import AdamW

schedule = dict(steps=9200, val_interval=460, warmup=200, power=0.9)
optim = dict(optimizer=dict(type=AdamW, lr=3e-3, weight_decay=1e-2))
engine = dict(precision="auto", channels_last=True)
seed = 0
