"""Cityscapes as networks trained with HRNet's code see it: crops of 1024 x 1024, no change of colours, 12 at a time.

That code draws its scale from 0.5, 0.6, .. 2.1; here it is uniform in between. ``class_weight`` is that code's too.
"""

from mmengine.config import read_base

with read_base():
    from .cityscapes import *

data["augment"].update(crop_size=(1024, 1024), scale=(0.5, 2.1), photometric=False)
data.update(batch_size=12)
class_weight = [
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
]  # fmt: skip
