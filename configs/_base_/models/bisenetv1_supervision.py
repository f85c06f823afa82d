"""BiSeNet's supervision: OHEM on the logits and on two auxiliary heads on the context path, all of weight 1.

The heads are those of the authors' code (256 channels); "coincheung" has 64. As there, a sixteenth of the pixels is
always kept (here of the valid ones). Auxiliary logits are resized without aligned corners.
"""

from segkd.supervision import OHEM, AuxHead

_auxiliary = dict(head=dict(type=AuxHead, middle=256, dropout=0.0, init="fan_in"), loss=dict(type=OHEM, threshold=0.7))
supervision = dict(
    main=dict(loss=dict(type=OHEM, threshold=0.7)),
    aux16=dict(tap="context.up16", **_auxiliary),
    aux8=dict(tap="context", **_auxiliary),
)
