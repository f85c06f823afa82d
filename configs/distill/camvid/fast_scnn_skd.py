"""Fast-SCNN on CamVid taught by the published ESPNet: structured knowledge distillation, its three terms.

Weights of the authors' script: 10 on a sum over a batch of 8, 0.5, 0.1.
The critic trains by IFVD's Adam at 4e-4 (SKD: SGD at 4e-4).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.skd_holistic import Holistic
from segkd.losses.skd_pair import PairWise
from segkd.losses.skd_pixel import SKDPixel

model.update(
    binds=dict(
        pixel=dict(
            student="",
            teacher="",
            loss=dict(type=SKDPixel),
            weight=80.0,
        ),
        pair=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=PairWise, pool=("scale", 0.5)),
            weight=0.5,
        ),
        holistic=dict(
            student="classifier",
            teacher="",
            loss=dict(type=Holistic),
            weight=0.1,
        ),
    )
)
