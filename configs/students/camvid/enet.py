"""ENet alone on CamVid, with the published recipe: Adam 5e-4, a tenth of it after 100 and 200 of 300 epochs, batch 10.

Classes are weighted by 1 / ln(1.02 + frequency). The steps down are those of the authors' options; their code as it
stands multiplies by 1e-7. They train the encoder as long before, and then the decoder on it; here both from the
start. As theirs, whole images of 480x360 that nothing is done to.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.class_weights import camvid_weights_enet

from torch.optim import Adam

from segkd.datasets.transforms import TrainTransform
from segkd.models.enet import ENet
from segkd.segmentor import Segmentor
from segkd.supervision import CrossEntropy

model = dict(
    type=Segmentor,
    network=dict(type=ENet, num_classes=11),
    supervision=dict(main=dict(loss=dict(type=CrossEntropy, class_weight=camvid_weights_enet))),
)
data.update(
    augment=dict(type=TrainTransform, crop_size=(360, 480), scale=None, flip=0.0, photometric=False),
    batch_size=10,
)
schedule = dict(steps=11100, val_interval=370, policy="step", milestones=[3700, 7400], gamma=0.1)
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=2e-4))
engine = dict(precision="auto", channels_last=True)
seed = 0
