"""Cityscapes as FasterSeg sees it: 12 crops of 512 x 1024 at a time, scaled by about 1, no change of colours.

The authors draw the scale from 0.75, 1 and 1.25; here it is uniform in between.
"""

from mmengine.config import read_base

with read_base():
    from .cityscapes import *

data["augment"].update(crop_size=(512, 1024), scale=(0.75, 1.25), photometric=False)
data.update(batch_size=12)
