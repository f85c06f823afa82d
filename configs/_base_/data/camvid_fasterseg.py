"""CamVid at 480 x 360 as FasterSeg would see it: 12 crops at a time, scaled by about 1, no change of colours."""

from mmengine.config import read_base

with read_base():
    from .camvid import *

data["augment"].update(scale=(0.75, 1.25), photometric=False)
data.update(batch_size=12)
