"""Pixel-wise KD and CWD of the logits, where labels are; this combination is ours.

Void and padding take no part: a teacher's answer there is noise. CWD's weight is the published one, 3; on CamVid and
on synthetic streets it is 1.
"""

from segkd.losses.cwd import ChannelWise
from segkd.losses.kd import PixelwiseKD

binds = dict(
    pixel=dict(
        student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0, masked=True
    ),
    channel=dict(
        student="@logits", teacher="@logits", loss=dict(type=ChannelWise, temperature=4.0), weight=3.0, masked=True
    ),
)
_strided = dict(student="@classifier", teacher="@classifier")
_light = dict(binds=dict(channel=dict(weight=1.0)))
on = dict(
    cityscapes=dict(binds=dict(pixel=_strided, channel=_strided)),
    ade20k=dict(binds=dict(pixel=_strided, channel=_strided)),
    camvid=_light,
    synthetic=_light,
)
