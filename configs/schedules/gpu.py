"""A GPU's schedule for short work: AdamW 3e-3, 400 epochs at batch 16; on CamVid 9,200 steps."""

from torch.optim import AdamW

optim = dict(optimizer=dict(type=AdamW, lr=3e-3, weight_decay=1e-2))
data = dict(batch_size=16, workers=8)
schedule = dict(epochs=400, val_interval=0.05, warmup=1 / 46, power=0.9)
on = dict(camvid=dict(schedule=dict(steps=9200)))
