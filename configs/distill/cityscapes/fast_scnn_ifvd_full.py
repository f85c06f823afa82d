"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: IFV beside KD and a critic, as published.

Published: 10 on a mean over classes too, 200 on all pixels (nine tenths are labelled), 0.001.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.ifvd import IntraClassVariation
from segkd.losses.kd import PixelwiseKD
from segkd.losses.skd_holistic import Holistic

model.update(
    binds=dict(
        pixel=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=PixelwiseKD, temperature=1.0),
            weight=0.53,
        ),
        variation=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=IntraClassVariation, num_classes=19),
            weight=180.0,
        ),
        holistic=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=Holistic),
            weight=0.001,
        ),
    )
)
