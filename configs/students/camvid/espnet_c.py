"""ESPNet-C, ESPNet without its decoder, alone on CamVid, with the recipe published for Cityscapes.

None is published for CamVid; 400 epochs of batch 8 at the data set's own size. Logits meet the label at 1/8 of its
size.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.class_weights import camvid_weights

from torch.optim import Adam

from segkd.models.espnet import ESPNetC
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ESPNetC, num_classes=11, p=2, q=8),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=camvid_weights), stride=8)),
)
schedule = dict(steps=18400, val_interval=460, policy="step", milestones=[6133, 12267], gamma=0.5)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
