"""DeepLabV3 (Chen et al. 2017) of torchvision, on ResNets, as MMSegmentation trains it: SGD, polynomial decay to 1e-4.

Its auxiliary head is torchvision's, on the third stage: a 3x3 convolution to a quarter of the channels, weight 0.5. On
Cityscapes 80,000 steps of batch 8, elsewhere 400 epochs. With a network, start the encoder from ImageNet: ``--set
model.network.pretrained=True`` (torchvision downloads it).
"""

from torch.optim import SGD

from segkd.supervision import AuxHead, CrossEntropy

supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(tap="backbone.layer3", head=dict(type=AuxHead, middle=256), loss=dict(type=CrossEntropy), weight=0.5),
)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(batch_size=8)
schedule = dict(epochs=400, val_interval=0.05, power=0.9, min_lr=1e-4)
on = dict(
    cityscapes=dict(schedule=dict(steps=80000, val_interval=0.1)),
    camvid=dict(data=dict(augment=dict(scale=(0.5, 2.0), photometric=True)), schedule=dict(steps=18400)),
)
