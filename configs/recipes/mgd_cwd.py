"""Masked generative distillation beside CWD of the logits, as published (Yang et al. 2022): ``mgd``, and CWD.

CWD's published weight, converted to a mean.
"""

from mmengine.config import read_base

from segkd.losses.cwd import ChannelWise

with read_base():
    from .mgd import *

binds.update(
    channel=dict(student="@logits", teacher="@logits", loss=dict(type=ChannelWise, temperature=4.0), weight=3.0)
)
on["cityscapes"]["binds"].update(channel=dict(student="@classifier", teacher="@classifier"))
