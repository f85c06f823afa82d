"""mmsegmentation's 20k: SGD 0.01, 20,000 steps of batch 16 (8 on Cityscapes), decay of power 0.9 to 1e-4."""

from mmengine.config import read_base

with read_base():
    from .._base_.mmsegmentation import *

schedule.update(steps=20000)
