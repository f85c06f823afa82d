"""ContextNet alone on Cityscapes, with what its authors publish for Fast-SCNN: SGD, lr 0.045, polynomial decay.

They trained ContextNet with twice the channels and pruned it in steps; here it is trained at its final width. There is
no auxiliary head: ports have one on the detail branch or four on the context branch, all off by default; whether its
authors, who published no code, used one could not be confirmed.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.data.cityscapes import *
    from ..._base_.schedules.gpu_80k import *

from segkd.models.contextnet import ContextNet
from segkd.segmentor import Segmentor

model = dict(type=Segmentor, network=dict(type=ContextNet, num_classes=19))
