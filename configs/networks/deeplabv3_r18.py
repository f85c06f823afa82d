"""DeepLabV3 on ResNet-18 as the field's light student: ASPP of 128 channels at a stride of 8, 13.3 M parameters.

An auxiliary head on the third stage with weight 0.4, as in the code of CIRKD (Yang et al. 2022), whose encoder has
three 3x3 convolutions for a stem where this one has the 7x7 of torchvision, which has weights. Its schedule is the
part ``cirkd``: ``--schedule cirkd``. There the encoder begins with ImageNet weights: ``--set
model.network.pretrained=True``.
"""

from torch.optim import SGD

from segkd.supervision import AuxHead, CrossEntropy

supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(tap="encoder.layer3", head=dict(type=AuxHead, middle=64), loss=dict(type=CrossEntropy), weight=0.4),
)
optim = dict(optimizer=dict(type=SGD, lr=0.02, momentum=0.9, weight_decay=1e-4))
data = dict(augment=dict(scale=(0.5, 2.0), photometric=False), batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, power=0.9)
on = dict(
    cityscapes=dict(data=dict(augment=dict(crop_size=(512, 1024))), schedule=dict(steps=40000, val_interval=0.02)),
    camvid=dict(data=dict(augment=dict(crop_size=(360, 360))), schedule=dict(steps=40000, val_interval=0.02)),
)
