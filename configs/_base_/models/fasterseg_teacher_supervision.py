"""The FasterSeg teacher's supervision: OHEM on the logits, and on heads at strides 16 and 32 with weight 0.2 each.

The authors keep at least a 16th of all pixels, here it is of the valid ones; their auxiliary logits are resized with
the corners kept, here without.
"""

from segkd.supervision import OHEM, AuxHead

_ohem = dict(type=OHEM, threshold=0.7, min_kept=1 / 16)
_head = dict(type=AuxHead, middle=192, dropout=0.0, init="fan_in")
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    aux16=dict(tap="joined16", head=dict(**_head), loss=dict(**_ohem), weight=0.2),
    aux32=dict(tap="deep32", head=dict(**_head), loss=dict(**_ohem), weight=0.2),
)
