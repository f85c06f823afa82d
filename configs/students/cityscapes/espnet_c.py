"""ESPNet-C, ESPNet without its decoder, alone on Cityscapes: Adam 5e-4, halved every 100 of 300 epochs (published).

The authors' epoch shows every image at five sizes, 512x256 to 1536x768, in batches of 12 to 16: 1,500 passes in all,
here at random scales in batches of 14. They train and test on halved images; here images keep the size at which they
are scored, and the scales are those relative to it. Logits meet the label at 1/8 of its size, as published. Their flip
is upside down and left out.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.class_weights import cityscapes_weights

from torch.optim import Adam

from segkd.datasets.transforms import TrainTransform
from segkd.models.espnet import ESPNetC
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ESPNetC, num_classes=19, p=2, q=8),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=cityscapes_weights), stride=8)),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=(0.5, 1.5), flip=0.5, photometric=False),
    batch_size=14,
)
schedule = dict(steps=318600, val_interval=10620, policy="step", milestones=[106200, 212400], gamma=0.5)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
