"""PSPNet with a ResNet-101 on CamVid at 480 x 360: the recipe of ``cityscapes/pspnet101`` over 400 epochs.

None is published. The crops are 8 k + 1 in size, as the authors' network demands and this one prefers.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.camvid import *
    from ..._base_.models.pspnet_supervision import supervision
    from ..._base_.schedules.pspnet import *

from segkd.models.pspnet import PSPNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=PSPNet, num_classes=11, encoder="resnet101"), supervision=supervision)
data["augment"].update(crop_size=(353, 481), scale=(0.5, 2.0), photometric=False)
data.update(batch_size=16)
schedule = dict(steps=9200, val_interval=460, power=0.9)
