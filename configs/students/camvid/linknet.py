"""LinkNet alone on CamVid, with the published recipe: RMSprop 5e-4, a tenth of it after 100 and 200 of 300 epochs.

Its encoder starts from ImageNet: --set model.network.pretrained=True with a network (torchvision downloads it). The
authors weigh the classes by 1 / ln(1.02 + frequency / highest frequency) and use whole images of 768x576 in a split of
their own, here of 480x360; they are not augmented. They subtract the mean image, here its mean. The steps down are
those of their options; their code as it stands multiplies by 1e-7.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.class_weights import camvid_weights_linknet

from torch.optim import RMSprop

from segkd.datasets.transforms import TrainTransform
from segkd.models.linknet import LinkNet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=LinkNet, num_classes=11, pretrained=False, mean=(104.95, 108.37, 110.20)),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=camvid_weights_linknet))),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(360, 480), scale=None, flip=0.0, photometric=False),
    batch_size=8,
)
schedule = dict(steps=13800, val_interval=460, policy="step", milestones=[4600, 9200], gamma=0.1)
optim = dict(optimizer=dict(type=RMSprop, lr=5e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
