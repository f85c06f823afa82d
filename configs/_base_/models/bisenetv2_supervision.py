"""BiSeNet V2's booster training: OHEM on the logits and on a head on each semantic stage, all of weight 1.

Heads and loss are those of github.com/CoinCheung/BiSeNet.
"""

from segkd.models.bisenetv2 import BoosterHead
from segkd.supervision import OHEM

_ohem = dict(type=OHEM, threshold=0.7)
supervision = dict(
    main=dict(loss=_ohem),
    aux2=dict(tap="semantic.stem", head=dict(type=BoosterHead, stride=4), loss=_ohem),
    aux3=dict(tap="semantic.stage3", head=dict(type=BoosterHead, stride=8), loss=_ohem),
    aux4=dict(tap="semantic.stage4", head=dict(type=BoosterHead, stride=16), loss=_ohem),
    aux5=dict(tap="semantic.stage5", head=dict(type=BoosterHead, stride=32), loss=_ohem),
)
