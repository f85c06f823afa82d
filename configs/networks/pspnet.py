"""PSPNet (Zhao et al. 2017), as its authors' PyTorch code trains it: SGD, all but the encoder ten times as fast.

Cross entropy on the logits, and on a head at the third stage with weight 0.4; there the auxiliary logits' resize keeps
the corners, and dropout drops whole channels. On Cityscapes 200 epochs at batch 16 on crops of 713 x 713. They start
from ImageNet weights of this ResNet with three convolutions for a stem; here the start is random unless
``model.network.weights`` names a file of the whole network. They also rotate by up to 10 degrees and blur at random,
normalise over all GPUs, and score by a sliding window of 713 x 713. On CamVid, for which none is published, 400 epochs.
Crops are 8 k + 1 in size, as the authors' network demands and this one prefers.
"""

from torch.optim import SGD

from segkd.supervision import AuxHead, CrossEntropy

supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(tap="layer3", head=dict(type=AuxHead, middle=256), loss=dict(type=CrossEntropy), weight=0.4),
)
_fast = dict(lr_mult=10)
optim = dict(
    optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise=dict(custom_keys={"student.pooling": _fast, "student.classifier": _fast, "supervision.": _fast}),
)
data = dict(augment=dict(scale=(0.5, 2.0), photometric=False), batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, power=0.9)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(crop_size=(713, 713))),
        schedule=dict(steps=37000, val_interval=0.1),  # 185 full batches an epoch
    ),
    camvid=dict(data=dict(augment=dict(crop_size=(353, 481))), schedule=dict(steps=9200)),
)
