"""ERFNet alone on Cityscapes, with the published recipe: Adam 5e-4, polynomial decay over 150 epochs, weighted classes.

The authors train the encoder as long before, with a 1x1 at stride 8, and then both; here both from the start. They
halve the images for training and test and mirror and shift them by up to 2 pixels; here images keep the size at which
they are scored, in random crops.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.class_weights import cityscapes_weights

from torch.optim import Adam

from segkd.datasets.transforms import TrainTransform
from segkd.models.erfnet import ERFNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ERFNet, num_classes=19),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=cityscapes_weights))),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=None, flip=0.5, photometric=False),
    batch_size=6,
)
schedule = dict(steps=74400, val_interval=2480, power=0.9)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=1e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
