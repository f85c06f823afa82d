"""Fast-SCNN on CamVid taught by the published ESPNet: IFV beside KD and a critic, as published.

Published: 10 on a mean over classes too, 200 on all pixels (Cityscapes: nine tenths are labelled), 0.001.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.ifvd import IntraClassVariation
from segkd.losses.kd import PixelwiseKD
from segkd.losses.skd_holistic import Holistic

model.update(
    binds=dict(
        pixel=dict(
            student="",
            teacher="",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=0.91,
        ),
        variation=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=IntraClassVariation, num_classes=11),
            weight=180.0,
        ),
        holistic=dict(
            student="classifier",
            teacher="",
            loss=dict(type=Holistic),
            weight=0.001,
        ),
    )
)
