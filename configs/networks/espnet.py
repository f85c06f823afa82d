"""ESPNet (Mehta et al. 2018), as its authors train it: Adam 5e-4, halved twice, weighted classes.

Published for Cityscapes: halved every 100 of 300 epochs. The authors' epoch shows every image at five sizes, 512x256 to
1536x768, in batches of 6 to 10: 1,500 passes in all, here at random scales in batches of 8. They train and test on
halved images; here images keep the size at which they are scored, and the scales are those relative to it. Their first
step, ESPNet-C (``espnet_c``) as a start, is left out; so is their flip, which is upside down. On CamVid, for which none
is published, 400 epochs of batch 8 at the data set's own size.
"""

from torch.optim import Adam

from segkd.supervision import CrossEntropy

supervision = dict(main=dict(loss=dict(type=CrossEntropy, class_weight="@espnet")))
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=5e-4))
data = dict(augment=dict(photometric=False), batch_size=8)
schedule = dict(epochs=400, val_interval=1 / 40, policy="step", milestones=[1 / 3, 2 / 3], gamma=0.5)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(scale=(0.5, 1.5))),
        schedule=dict(steps=558000, val_interval=1 / 30),
    ),
    camvid=dict(schedule=dict(steps=18400)),
)
