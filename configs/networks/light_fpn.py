"""A light backbone under a small pyramid decoder: AdamW 2e-4, polynomial decay, as PoolFormer and EfficientFormer.

Learning rate 2e-4, weight decay 1e-4, power 0.9, no warm-up. Both publish 40,000 steps of batch 32 on ADE20K; here they
are 80,000 of batch 16, and 400 epochs where no one publishes a length. With a network, start the backbone from
ImageNet: ``--set model.network.pretrained=True`` (timm, for ShuffleNetV2 torchvision, downloads it on first use).
"""

from torch.optim import AdamW

optim = dict(optimizer=dict(type=AdamW, lr=2e-4, weight_decay=1e-4))
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, power=0.9)
_published = dict(schedule=dict(steps=80000, val_interval=0.1))
on = dict(cityscapes=_published, ade20k=_published, camvid=dict(schedule=dict(steps=9200)))
