"""FANet-18 (Hu et al. 2021), as its authors train it: OHEM on the logits and two auxiliary heads, weight 0.5 each.

The schedule, the scales and the loss are those of the one config that they published, for another data set: 40,000
steps of SGD at batch 16. Its crops of 384 x 384 belong to smaller images, so the crop on Cityscapes is this project's.
Their warm-up is exponential, from 1e-5, their colours vary by up to half (here by 0.3, and in hue), and they also
rotate by up to 5 degrees. They resize all logits with aligned corners; here the auxiliary ones are resized without.
They start from ImageNet weights: ``--set model.network.pretrained=True``. On CamVid 400 epochs.
"""

from torch.optim import SGD

from segkd.models.fanet import AuxOutput
from segkd.supervision import OHEM

_ohem = dict(type=OHEM, threshold=0.7, min_kept=1 / 16)
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    aux64=dict(tap="fuse64", head=dict(type=AuxOutput, smooth=True), loss=dict(**_ohem), weight=0.5),
    aux32=dict(tap="smooth32", head=dict(type=AuxOutput), loss=dict(**_ohem), weight=0.5),
)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(augment=dict(scale=(0.5, 2.0), photometric=True), batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, warmup=1 / 46, power=0.9)
on = dict(
    cityscapes=dict(schedule=dict(steps=40000, val_interval=0.1, warmup=1 / 40)),
    camvid=dict(schedule=dict(steps=9200)),
)
