"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: SKD's holistic term, a critic that sees the image.

Published weight; the critic has its own optimiser, optim.critic: IFVD's Adam at 4e-4 (SKD: SGD at 4e-4).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.skd_holistic import Holistic

model.update(
    binds=dict(
        holistic=dict(
            student="classifier",
            teacher="segmentation_head.0",
            loss=dict(type=Holistic),
            weight=0.1,
        ),
    )
)
