"""Cross-image relations beside KD, as published (Yang et al. 2022).

Published weights. CamVid has an eighth of Cityscapes' images: there the pixel memory holds a tenth.
"""

from segkd.losses.cirkd import CrossImageRelational
from segkd.losses.kd import PixelwiseKD

binds = dict(
    pixel=dict(student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight=1.0),
    relations=dict(
        student="@head", teacher="@head", loss=dict(type=CrossImageRelational, num_classes="@classes"), weight=1.0
    ),
)
on = dict(
    camvid=dict(binds=dict(relations=dict(loss=dict(pixel_memory_size=2000)))),
    cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))),
)
