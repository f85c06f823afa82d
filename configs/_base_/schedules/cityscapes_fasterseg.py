"""FasterSeg's schedule: 600 epochs of 1,000 steps; the learning rate falls by 0.8 % with each; for a GPU."""

from torch.optim import SGD

schedule = dict(steps=600000, val_interval=10000, policy="exponential", gamma=0.992, interval=1000)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
