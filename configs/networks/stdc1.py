"""STDC1-Seg (Fan et al. 2021), as its authors train it: OHEM on the logits and two heads, details on stride 8.

All terms have weight 1. Fusion and heads learn ten times as fast; BatchNorm does not decay. The warm-up is linear from
a hundredth of the learning rate, there exponential from a thousandth. (Their code gives the encoder's BatchNorm to no
optimiser: its scale and shift stay those of ImageNet. Here they learn.) A sixteenth of the valid pixels is always kept,
there of all; what is resized here has no aligned corners; and where a class meets void there is no detail
(``void_is_class=True`` for theirs).

On Cityscapes crops of 512 x 1024, batch 48, 60,000 steps. They start from ImageNet weights of their own encoder; here
the start is random unless ``model.network.weights`` names a file. Their scale is drawn from 0.125, 0.25, .. 1.5, and
what is then smaller than the crop is enlarged to it, so that none is below 0.5: here it is uniform from 0.5. They vary
brightness, contrast and saturation by 0.5, here it is by 0.3, and the hue a little. On CamVid, for which their code has
no recipe, 400 epochs at CamVid's scales.
"""

from torch.optim import SGD

from segkd.supervision import OHEM, AuxHead, BoundaryHead, DetailLoss

_ohem = dict(type=OHEM, threshold=0.7)
_auxiliary = dict(
    head=dict(type=AuxHead, middle=64, dropout=0.0, classifier_bias=False, init="fan_in", slope=1.0), loss=_ohem
)
supervision = dict(
    main=dict(loss=_ohem),
    aux16=dict(tap="context.up16", **_auxiliary),
    aux8=dict(tap="context", **_auxiliary),
    detail=dict(
        tap="stage3",
        head=dict(type=BoundaryHead, middle=64, classifier_bias=False, init="fan_in", slope=1.0),
        loss=dict(type=DetailLoss),
    ),
)
_new = ["student.fusion", "student.head", "student.classifier", "supervision."]
_undecayed = [
    "student.fusion.conv.1", "student.head.1", "supervision.heads.aux16.norm", "supervision.heads.aux8.norm",
    "supervision.heads.detail.norm",
]  # fmt: skip
optim = dict(
    optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            **{part: dict(lr_mult=10.0) for part in _new},
            **{part: dict(lr_mult=10.0, decay_mult=0.0) for part in _undecayed},
        },
    ),
)
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, warmup=1 / 46, power=0.9)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(scale=(0.5, 1.5)), batch_size=48),
        schedule=dict(steps=60000, val_interval=0.1, warmup=1 / 60),
    ),
    camvid=dict(data=dict(workers=8), schedule=dict(steps=9200)),
)
