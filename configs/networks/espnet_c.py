"""ESPNet-C, ESPNet without its decoder: as ESPNet, but logits meet the label at 1/8 of its size, as published.

On Cityscapes the authors' batches are of 12 to 16 images, here of 14.
"""

from mmengine.config import read_base

with read_base():
    from .espnet import *

supervision["main"].update(stride=8)
on["cityscapes"].update(data=dict(augment=dict(scale=(0.5, 1.5)), batch_size=14))
on["cityscapes"]["schedule"].update(steps=318600)
