"""BiSeNet V2 (Yu et al. 2021), as github.com/CoinCheung/BiSeNet trains it: OHEM on the logits and four booster heads.

All terms have weight 1. The heads learn ten times as fast; BatchNorm and biases do not decay. The warm-up is linear
from a hundredth of the learning rate, there exponential from a tenth. On Cityscapes crops of 512 x 1024, batch 16,
150,000 steps, scales from 0.25 to 2; on CamVid, for which that code has no recipe, 400 epochs at CamVid's scales.

That repository starts from ImageNet weights of its own, here it is from nothing. It varies brightness, contrast and
saturation by 0.4, here it is by 0.3, and the hue a little.
"""

from torch.optim import SGD

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
_heads = ["student.head", "student.classifier", "supervision."]
_undecayed = [
    "student.head.1", "student.classifier.bias",
    "supervision.heads.aux2.conv.1", "supervision.heads.aux2.expand.1", "supervision.heads.aux2.classifier.bias",
    "supervision.heads.aux3.conv.1", "supervision.heads.aux3.expand.1", "supervision.heads.aux3.classifier.bias",
    "supervision.heads.aux4.conv.1", "supervision.heads.aux4.expand.1", "supervision.heads.aux4.classifier.bias",
    "supervision.heads.aux5.conv.1", "supervision.heads.aux5.expand.1", "supervision.heads.aux5.classifier.bias",
]  # fmt: skip
optim = dict(
    optimizer=dict(type=SGD, lr=0.005, momentum=0.9, weight_decay=5e-4),
    paramwise=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            **{part: dict(lr_mult=10.0) for part in _heads},
            **{part: dict(lr_mult=10.0, decay_mult=0.0) for part in _undecayed},
        },
    ),
)
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, warmup=1 / 46, power=0.9)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(scale=(0.25, 2.0))),
        schedule=dict(steps=150000, val_interval=1 / 15, warmup=1 / 150),
    ),
    camvid=dict(data=dict(workers=8), schedule=dict(steps=9200)),
)
