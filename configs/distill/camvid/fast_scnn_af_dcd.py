"""Fast-SCNN on CamVid taught by the published ESPNet: augmentation-free dense contrastive distillation (Af-DCD).

The authors' weights for CamVid, converted: 8e-6 at 2048 x 45 x 45, and 0.01 * 16; no pooling there.
They clip its gradient at 15, apart from the student's: left out.
The teacher's features, of an rms of 0.045, are taken as they are: scaled to about 1, the term's gradient was 8 to 13
times the labels' at the layer that they share (as they are, 3 to 6 %).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.connectors import Conv1x1
from segkd.losses.af_dcd import DenseContrastive

model.update(
    binds=dict(
        contrast=dict(
            student="fusion",
            teacher="encoder.join3",
            loss=dict(type=DenseContrastive, pool_size=1, lambda_fd=33.2, lambda_ocd=0.16),
            weight=1.0,
            teacher_scale=1.0,
            connector=dict(type=Conv1x1, bias=True),
        ),
    )
)
