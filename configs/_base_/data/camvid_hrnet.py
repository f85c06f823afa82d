"""CamVid with the scales and the batch that ``cityscapes_hrnet`` has."""

from mmengine.config import read_base

with read_base():
    from .camvid import *

data["augment"].update(scale=(0.5, 2.1))
data.update(batch_size=12)
