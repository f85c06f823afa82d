"""FasterSeg (Chen et al. 2020), as its authors train it: OHEM on the logits, and on heads at strides 16 and 32.

The heads have weight 0.2. The authors keep at least a 16th of all pixels, here it is of the valid ones; their auxiliary
logits are resized with the corners kept, here without. They draw the scale from 0.75, 1 and 1.25, here it is uniform in
between, without change of colours. Their learning rate falls by 0.8 % with each of 600 epochs of 1,000 steps; here it
falls 600 times wherever it is. They train it with its teacher (recipe ``fasterseg``). On CamVid, for which nothing is
published in their code, 400 epochs of batch 12.
"""

from torch.optim import SGD

from segkd.supervision import OHEM, AuxHead

_ohem = dict(type=OHEM, threshold=0.7, min_kept=1 / 16)
_head = dict(type=AuxHead, dropout=0.0, init="fan_in")
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    aux16=dict(tap="joined16", head=dict(middle=192, **_head), loss=dict(**_ohem), weight=0.2),
    aux32=dict(tap="deep32", head=dict(middle=256, **_head), loss=dict(**_ohem), weight=0.2),
)
optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(augment=dict(scale=(0.75, 1.25), photometric=False), batch_size=12)
schedule = dict(epochs=400, val_interval=0.05, policy="exponential", gamma=0.992, interval=1 / 600)
on = dict(
    cityscapes=dict(data=dict(augment=dict(crop_size=(512, 1024))), schedule=dict(steps=600000, val_interval=1 / 60)),
    camvid=dict(schedule=dict(steps=12000)),
)
