"""SKD's pixel-wise term (Liu et al. 2019) on the logits: the published weight 10 on a sum over a batch of 8."""

from segkd.losses.skd_pixel import SKDPixel

binds = dict(pixel=dict(student="@logits", teacher="@logits", loss=dict(type=SKDPixel), weight=80.0))
on = dict(cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))))
