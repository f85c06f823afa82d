"""LR-ASPP on MobileNetV3-Large (Howard et al. 2019) of torchvision, as MMSegmentation trains it: SGD, decay to 1e-4.

320,000 steps of batch 16 on Cityscapes, elsewhere 400 epochs. With a network, start the backbone from ImageNet:
``--set model.network.pretrained=True`` (torchvision downloads it).
"""

from torch.optim import SGD

optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, power=0.9, min_lr=1e-4)
on = dict(
    cityscapes=dict(schedule=dict(steps=320000, val_interval=0.1)),
    camvid=dict(schedule=dict(steps=9200)),
)
