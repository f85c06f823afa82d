"""ConvNeXt's schedule for UPerNet: AdamW with learning rate 1e-4 and weight decay 0.05, linear decay after a warm-up.

The published decay of the learning rate over the encoder's depth (0.9 for each of 12 steps) is left out.
"""

from torch.optim import AdamW

schedule = dict(steps=160000, val_interval=16000, warmup=1500, power=1.0)
optim = dict(optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
engine = dict(precision="auto", channels_last=True)
seed = 0
