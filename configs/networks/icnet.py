"""ICNet (Zhao et al. 2018): cross entropy at strides 4, 8 and 16, each against the label at that size; from scratch.

The two lower ones see, through a 1x1 convolution, the maps that the fusions resize. Their weights, 0.4, are those of
MMSegmentation: the authors' training code is not public (an early TensorFlow port has 0.16 at stride 16). The 30,000
steps at batch 16 on Cityscapes are the authors' (for the training images), the rest is PSPNet's, from the same authors:
SGD, polynomial decay, mirrored and scaled crops. They train a network of full width first and then halve it. On CamVid
400 epochs.
"""

from torch.optim import SGD

from segkd.supervision import AuxHead, CrossEntropy

_auxiliary = dict(head=dict(type=AuxHead, middle=0), loss=dict(type=CrossEntropy), weight=0.4)
supervision = dict(
    main=dict(loss=dict(type=CrossEntropy), stride=4),
    aux8=dict(tap="fusion16", stride=8, **_auxiliary),
    aux16=dict(tap="context", stride=16, **_auxiliary),
)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=1e-4))
data = dict(augment=dict(scale=(0.5, 2.0), photometric=False), batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, power=0.9)
on = dict(
    cityscapes=dict(data=dict(augment=dict(crop_size=(713, 713))), schedule=dict(steps=30000, val_interval=0.1)),
    camvid=dict(schedule=dict(steps=9200)),
)
