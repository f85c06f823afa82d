"""DABNet (Li et al. 2019), as its authors train it, for 1,000 epochs: Adam and weighted classes, as on CamVid.

On Cityscapes SGD, and OHEM with HRNet's class weights, at batch 8 on crops of 512 x 1024: there their loss is divided
by the chosen pixels' class weights, not by their number, and their warm-up begins at a third of the learning rate, of
which they found 0.045 perhaps too much. Their scale is one of 0.75, 1, 1.25, .. 2.

On CamVid they train on train and val (66.72 on test), at batch 16 on crops of 360 x 480; here it is train alone. The
table of class weights that they ship was counted on both, with void in the total, as here, and in bicyclist's count as
well (7.55 for 10.21 here); their code as it stands would leave void out.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.hrnet import class_weight

from torch.optim import SGD, Adam

from segkd.supervision import OHEM, CrossEntropy

_ohem = dict(type=OHEM, threshold=0.7, min_kept=1 / 16, select="probability", class_weight=class_weight)
supervision = dict(main=dict(loss=dict(type=CrossEntropy, class_weight="@espnet")))
optim = dict(optimizer=dict(type=Adam, lr=1e-3, weight_decay=2e-4))
data = dict(augment=dict(scale=(0.75, 2.0), photometric=False), batch_size=16)
schedule = dict(epochs=1000, val_interval=0.05, warmup=1 / 44, power=0.9)
on = dict(
    cityscapes=dict(
        supervision=dict(main=dict(loss=_ohem)),
        optim=dict(optimizer=dict(type=SGD, lr=0.045, momentum=0.9, weight_decay=1e-4)),
        data=dict(augment=dict(crop_size=(512, 1024)), batch_size=8),
        schedule=dict(steps=371000, warmup=1 / 742),  # 371 full batches an epoch
    ),
    camvid=dict(
        network=dict(mean=(99.63, 103.33, 105.66)),  # of train and val, as the authors'
        data=dict(augment=dict(crop_size=(360, 480))),
        schedule=dict(steps=22000),
    ),
)
