"""ESPNet alone on Cityscapes, with the published recipe: Adam 5e-4, halved every 100 of 300 epochs, weighted classes.

The authors' epoch shows every image at five sizes, 512x256 to 1536x768, in batches of 6 to 10: 1,500 passes in all,
here at random scales in batches of 8. They train and test on halved images; here images keep the size at which they are
scored, and the scales are those relative to it. Their first step, ESPNet-C (``espnet_c.py``) as a start, is left out;
so is their flip, which is upside down.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.class_weights import cityscapes_weights

from torch.optim import Adam

from segkd.datasets.transforms import TrainTransform
from segkd.models.espnet import ESPNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ESPNet, num_classes=19, p=2, q=8),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=cityscapes_weights))),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=(0.5, 1.5), flip=0.5, photometric=False),
    batch_size=8,
)
schedule = dict(steps=558000, val_interval=18600, policy="step", milestones=[186000, 372000], gamma=0.5)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
