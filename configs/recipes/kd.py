"""Pixel-wise KD of the logits (Hinton et al. 2015), with CIRKD's temperature and weight."""

from segkd.losses.kd import PixelwiseKD

binds = dict(
    pixel=dict(student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0),
)
on = dict(cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))))
