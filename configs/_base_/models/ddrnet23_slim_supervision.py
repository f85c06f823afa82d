"""DDRNet-23-slim's supervision: OHEM on the logits, and with weight 0.4 on the first high-resolution sum.

The authors' training code is not public; thresholds and weights are those of MMSegmentation, which reaches their mIoU.
"""

from segkd.supervision import OHEM, AuxHead

_ohem = dict(type=OHEM, threshold=0.9, min_kept=131072, select="probability")
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    aux=dict(
        tap="to_detail3",
        head=dict(type=AuxHead, middle=64, norm_first=True, init="fan_out"),
        loss=dict(**_ohem),
        weight=0.4,
    ),
)
