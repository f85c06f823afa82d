"""BiSeNet on ResNet-18 (Yu et al. 2018), as its authors train it on Cityscapes (TorchSeg): OHEM on three outputs.

The auxiliary heads, on the context path, have weight 1 and the 256 channels of the authors' code ("coincheung" has 64).
As there, a sixteenth of the pixels is always kept (here of the valid ones). Auxiliary logits are resized without
aligned corners. All but the ResNet learns ten times as fast; BatchNorm and biases do not decay.

They start from ResNet-18's ImageNet weights: ``--set model.network.pretrained=True`` downloads torchvision's. Their
scale is drawn from 0.75, 1, .. 2, here uniform in between; no change of colours, as there. On Cityscapes crops of 1024
x 1024, batch 16, 80,000 steps. Their code has no recipe for CamVid: here it is 400 epochs.
"""

from torch.optim import SGD

from segkd.supervision import OHEM, AuxHead

_auxiliary = dict(head=dict(type=AuxHead, middle=256, dropout=0.0, init="fan_in"), loss=dict(type=OHEM, threshold=0.7))
supervision = dict(
    main=dict(loss=dict(type=OHEM, threshold=0.7)),
    aux16=dict(tap="context.up16", **_auxiliary),
    aux8=dict(tap="context", **_auxiliary),
)
_new = ["student.spatial", "student.context", "student.fusion", "student.head", "student.classifier", "supervision."]
_undecayed = [
    "student.spatial.0.1", "student.spatial.1.1", "student.spatial.2.1", "student.spatial.3.1",
    "student.context.pool.1.1", "student.context.up16.1", "student.context.up8.1",
    "student.context.refine32.conv.1", "student.context.refine32.gate.1.1",
    "student.context.refine16.conv.1", "student.context.refine16.gate.1.1",
    "student.fusion.conv.1", "student.fusion.gate.1.1", "student.head.1", "student.classifier.bias",
    "supervision.heads.aux16.norm", "supervision.heads.aux16.classifier.bias",
    "supervision.heads.aux8.norm", "supervision.heads.aux8.classifier.bias",
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
data = dict(augment=dict(scale=(0.75, 2.0), photometric=False), batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, power=0.9)
on = dict(
    cityscapes=dict(data=dict(augment=dict(crop_size=(1024, 1024))), schedule=dict(steps=80000, val_interval=0.1)),
    camvid=dict(data=dict(workers=8), schedule=dict(steps=9200)),
)
