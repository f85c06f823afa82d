"""DeepLabV3+ (Chen et al. 2018) of smp: SGD with polynomial decay, 80,000 steps on Cityscapes and ADE20K.

With a network, start the encoder from ImageNet: ``--set model.network.pretrained=True`` (smp downloads it on first
use). On CamVid and synthetic streets, where it trains from scratch on a CPU (with a ResNet-18): AdamW, tuned for short
trainings.
"""

from torch.optim import SGD, AdamW

optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
schedule = dict(epochs=400, val_interval=0.05, warmup=0.0125, power=0.9)
_gpu = dict(schedule=dict(steps=80000, val_interval=0.1))
on = dict(
    cityscapes=_gpu,
    ade20k=_gpu,
    camvid=dict(
        optim=dict(optimizer=dict(type=AdamW, lr=2e-3, weight_decay=1e-2)),
        data=dict(augment=dict(scale=(0.5, 2.0), photometric=True)),
        schedule=dict(steps=2750, val_interval=0.1, warmup=1 / 55),
    ),
    synthetic=dict(
        optim=dict(optimizer=dict(type=AdamW, lr=4e-3, weight_decay=1e-2)),
        schedule=dict(steps=1500, val_interval=1 / 3, warmup=1 / 30),
    ),
)
