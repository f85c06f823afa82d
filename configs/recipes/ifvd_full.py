"""IFV beside KD and a critic, as published (Wang et al. 2020).

Published: 10 on a mean over classes too, 200 on all pixels (Cityscapes: nine tenths are labelled), 0.001.
"""

from mmengine.config import read_base

from segkd.losses.kd import PixelwiseKD
from segkd.losses.skd_holistic import Holistic

with read_base():
    from .ifvd import *

binds["variation"].update(weight=180.0)
binds.update(
    pixel=dict(
        student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight="@10/classes"
    ),
    holistic=dict(student="@classifier", teacher="@classifier", loss=dict(type=Holistic), weight=0.001),
)
on = dict(cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))))
