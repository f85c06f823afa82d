"""Fast-SCNN on CamVid taught by the published ESPNet: similarity of pixels.

RepDistiller's weight 3000 at 64 samples; there is none published for segmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.sp import SimilarityPreserving

model.update(
    binds=dict(
        similarity=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=SimilarityPreserving),
            weight=47.0,
        ),
    )
)
