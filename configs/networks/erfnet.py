"""ERFNet (Romera et al. 2018), as its authors train it: Adam 5e-4, polynomial decay over 150 epochs, weighted classes.

They train the encoder as long before, with a 1x1 at stride 8, and then both; here both from the start. They halve
Cityscapes' images for training and test and mirror and shift them by up to 2 pixels; here images keep the size at which
they are scored, in random crops. On CamVid, for which none is published, 400 epochs of batch 8.
"""

from torch.optim import Adam

from segkd.supervision import CrossEntropy

supervision = dict(main=dict(loss=dict(type=CrossEntropy, class_weight="@espnet")))
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=1e-4))
data = dict(augment=dict(scale=None, photometric=False), batch_size=6)
schedule = dict(epochs=150, val_interval=1 / 30, power=0.9)
on = dict(
    cityscapes=dict(schedule=dict(steps=74400)),
    camvid=dict(
        data=dict(augment=dict(scale=(0.75, 2.0)), batch_size=8), schedule=dict(steps=18400, val_interval=1 / 40)
    ),
)
