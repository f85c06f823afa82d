"""Cross-image relations (Yang et al. 2022) of the head's last feature, in the mini-batch and to a memory.

Published weights 1, 0.1 and 0.1. CamVid has an eighth of Cityscapes' images: there the pixel memory holds a tenth.
"""

from segkd.losses.cirkd import CrossImageRelational

binds = dict(
    relations=dict(
        student="@head", teacher="@head", loss=dict(type=CrossImageRelational, num_classes="@classes"), weight=1.0
    ),
)
on = dict(camvid=dict(binds=dict(relations=dict(loss=dict(pixel_memory_size=2000)))))
