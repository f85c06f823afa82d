"""Fast-SCNN on CamVid taught by the published ESPNet: SKD's pair-wise term.

Pooling and weight of the authors' script.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.skd_pair import PairWise

model.update(
    binds=dict(
        pair=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=PairWise, pool=("scale", 0.5)),
            weight=0.5,
        ),
    )
)
