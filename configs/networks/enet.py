"""ENet (Paszke et al. 2016), as its authors train it: Adam 5e-4, a tenth of it after 100 and 200 of 300 epochs.

Classes are weighted by 1 / ln(1.02 + frequency). The steps down are those of the authors' options; their code as it
stands multiplies by 1e-7. They train the encoder as long before, and then the decoder on it; here both from the start.
They do not augment. They shrink Cityscapes' images to 512x256 for training and test; here images keep the size at which
they are scored, in random crops. On CamVid, as theirs, whole images of 480x360 that nothing is done to.
"""

from torch.optim import Adam

from segkd.supervision import CrossEntropy

supervision = dict(main=dict(loss=dict(type=CrossEntropy, class_weight="@enet")))
optim = dict(optimizer=dict(type=Adam, lr=5e-4, weight_decay=2e-4))
data = dict(augment=dict(scale=None, flip=0.0, photometric=False), batch_size=10)
schedule = dict(epochs=300, val_interval=1 / 30, policy="step", milestones=[1 / 3, 2 / 3], gamma=0.1)
on = dict(
    cityscapes=dict(schedule=dict(steps=89400)),
    camvid=dict(data=dict(augment=dict(crop_size=(360, 480))), schedule=dict(steps=11100)),
)
