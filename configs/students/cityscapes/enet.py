"""ENet alone on Cityscapes, with the published recipe: Adam 5e-4, a tenth of it after 100 and 200 of 300 epochs.

Classes are weighted by 1 / ln(1.02 + frequency). The steps down are those of the authors' options; their code as it
stands multiplies by 1e-7. They train the encoder as long before, and then the decoder on it; here both from the start.
They shrink the images to 512x256 for training and test; here images keep the size at which they are scored, in random
crops; no other augmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.class_weights import cityscapes_weights_enet

from torch.optim import Adam

from segkd.datasets.transforms import TrainTransform
from segkd.models.enet import ENet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ENet, num_classes=19),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=cityscapes_weights_enet))),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=None, flip=0.0, photometric=False),
    batch_size=10,
)
schedule = dict(steps=89400, val_interval=2980, policy="step", milestones=[29800, 59600], gamma=0.1)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=2e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
