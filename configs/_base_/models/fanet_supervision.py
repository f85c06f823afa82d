"""FANet's supervision: OHEM on the logits and on two auxiliary heads at strides 64 and 32, weight 0.5 each.

The authors resize all logits with aligned corners; here the auxiliary ones are resized without.
"""

from segkd.models.fanet import AuxOutput
from segkd.supervision import OHEM

_ohem = dict(type=OHEM, threshold=0.7, min_kept=1 / 16)
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    aux64=dict(tap="fuse64", head=dict(type=AuxOutput, smooth=True), loss=dict(**_ohem), weight=0.5),
    aux32=dict(tap="smooth32", head=dict(type=AuxOutput), loss=dict(**_ohem), weight=0.5),
)
