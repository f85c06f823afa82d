"""CIRKD's schedule (Yang et al. 2022), which most later papers took over: SGD 0.02, 40,000 steps of batch 16.

Momentum 0.9, weight decay 1e-4, polynomial decay of power 0.9; scales of 0.5 to 2 and mirrors, no colours; crops of
512 x 1024 on Cityscapes, of 360 x 360 on CamVid (where that is 1,744 epochs), of 512 x 512 elsewhere.
"""

from torch.optim import SGD

optim = dict(optimizer=dict(type=SGD, lr=0.02, momentum=0.9, weight_decay=1e-4))
data = dict(augment=dict(crop_size=(512, 512), scale=(0.5, 2.0), flip=0.5, photometric=False), batch_size=16)
schedule = dict(steps=40000, val_interval=0.02, power=0.9)
on = dict(
    cityscapes=dict(data=dict(augment=dict(crop_size=(512, 1024)))),
    camvid=dict(data=dict(augment=dict(crop_size=(360, 360)))),
)
