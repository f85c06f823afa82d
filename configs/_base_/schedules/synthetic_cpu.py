"""1,500 steps of batch 8, in bf16 (where the CPU has it) with channels_last, for 2 CPU cores."""

from torch.optim import AdamW

schedule = dict(steps=1500, val_interval=500, warmup=50, power=0.9)
optim = dict(optimizer=dict(type=AdamW, lr=3.2e-2, weight_decay=1e-2))
engine = dict(precision="auto", channels_last=True)
seed = 0
