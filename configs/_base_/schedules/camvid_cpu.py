"""2,750 steps of batch 8 (60 epochs of CamVid), in bf16 (where the CPU has it) with channels_last, for 2 CPU cores."""

from torch.optim import AdamW

schedule = dict(steps=2750, val_interval=275, warmup=50, power=0.9)
optim = dict(optimizer=dict(type=AdamW, lr=8e-3, weight_decay=1e-2))
engine = dict(precision="auto", channels_last=True)
seed = 0
