"""U-Net (Ronneberger et al. 2015): SGD 0.01 with polynomial decay, cross entropy, 400 epochs of batch 8; ours.

Published is a recipe for microscope images: SGD with momentum 0.99 on one image at a time (its learning rate is not
named), cross entropy weighted by class and towards the borders between cells, elastic deformations. Momentum 0.9 at
batch 8 averages over about as many images. On Cityscapes 80,000 steps of batch 12.
"""

from torch.optim import SGD

optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(batch_size=8)
schedule = dict(epochs=400, val_interval=1 / 40, warmup=1 / 92, power=0.9)
on = dict(
    cityscapes=dict(data=dict(batch_size=12), schedule=dict(steps=80000, val_interval=0.1, warmup=1 / 80)),
    camvid=dict(schedule=dict(steps=18400)),
)
