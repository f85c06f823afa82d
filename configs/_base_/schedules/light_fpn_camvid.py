"""The schedule of light backbones on CamVid: 400 epochs at batch 16; as no one publishes one, the rest as elsewhere."""

from mmengine.config import read_base

with read_base():
    from .light_fpn import *

schedule.update(steps=9200, val_interval=460)
