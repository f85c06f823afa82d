"""Af-DCD beside KD, as published (Fan et al. 2023): ``af_dcd``, without the clipping there too, and KD of weight 1."""

from mmengine.config import read_base

from segkd.losses.kd import PixelwiseKD

with read_base():
    from .af_dcd import *

binds.update(pixel=dict(student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0))
on.update(cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))))
