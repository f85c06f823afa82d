"""LinkNet alone on Cityscapes, with the published recipe: RMSprop 5e-4, a tenth of it after 100 and 200 of 300 epochs.

Its encoder starts from ImageNet: --set model.network.pretrained=True with a network (torchvision downloads it). The
authors weigh the classes by 1 / ln(1.02 + frequency / highest frequency), halve the images for training and test and do
not augment them; here images keep the size at which they are scored, in random crops. The steps down are those of their
options; their code as it stands multiplies by 1e-7.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.class_weights import cityscapes_weights_linknet

from torch.optim import RMSprop

from segkd.datasets.transforms import TrainTransform
from segkd.models.linknet import LinkNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=LinkNet, num_classes=19, pretrained=False),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=cityscapes_weights_linknet))),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(512, 1024), scale=None, flip=0.0, photometric=False),
    batch_size=8,
)
schedule = dict(steps=111600, val_interval=3720, policy="step", milestones=[37200, 74400], gamma=0.1)
optim = dict(optimizer=dict(type=RMSprop, lr=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
