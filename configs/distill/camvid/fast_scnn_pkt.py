"""Fast-SCNN on CamVid taught by the published ESPNet: probabilistic knowledge transfer of pixels.

RepDistiller's weight 30000 at 64 samples; there is none published for segmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.pkt import ProbabilisticTransfer

model.update(
    binds=dict(
        probabilities=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=ProbabilisticTransfer),
            weight=469.0,
        ),
    )
)
