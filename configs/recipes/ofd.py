"""The overhaul of feature distillation (Heo et al. 2019) at the head's last feature, before its ReLU.

The authors' weight for the decoder's tap, 1e-5 / 16 on a sum over 256 x 129 x 129, for this file's mean. The teacher's
responses are brought to an rms of 1, with margins estimated from what is scaled; on Cityscapes they are taken as they
are, as published.
"""

from segkd.connectors import Conv1x1
from segkd.losses.ofd import Overhaul

binds = dict(
    overhaul=dict(
        student="@head_preact",
        teacher="@head_preact",
        loss=dict(type=Overhaul),
        weight=2.66,
        teacher_scale="auto",
        connector=dict(type=Conv1x1, norm=True),
        lr_factor=10.0,
    ),
)
on = dict(cityscapes=dict(binds=dict(overhaul=dict(teacher_scale=None))))
