"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: similarity of pixels.

RepDistiller's weight 3000 at 64 samples; there is none published for segmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.sp import SimilarityPreserving

model.update(
    binds=dict(
        similarity=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=SimilarityPreserving),
            weight=47.0,
        ),
    )
)
