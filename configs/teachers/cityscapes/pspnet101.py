"""PSPNet with a ResNet-101 on Cityscapes: 200 epochs of SGD at batch 16 on crops of 713 x 713, as in the authors' code.

They start from ImageNet weights of this ResNet with three convolutions for a stem; here the start is random unless
``model.network.weights`` names a file of the whole network. They also rotate by up to 10 degrees and blur at random,
normalise over all GPUs, and score by a sliding window of 713 x 713.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.models.pspnet_supervision import supervision
    from ..._base_.schedules.pspnet import *

from segkd.models.pspnet import PSPNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=PSPNet, num_classes=19, encoder="resnet101"), supervision=supervision)
data["augment"].update(crop_size=(713, 713), scale=(0.5, 2.0), photometric=False)
data.update(batch_size=16)
schedule = dict(steps=37000, val_interval=3700, power=0.9)  # 185 full batches an epoch
