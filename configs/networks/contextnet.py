"""ContextNet (Poudel et al. 2018), with what its authors publish for Fast-SCNN: SGD, lr 0.045, polynomial decay.

They trained ContextNet with twice the channels and pruned it in steps; here it is trained at its final width. There is
no auxiliary head: ports have one on the detail branch or four on the context branch, all off by default; whether its
authors, who published no code, used one could not be confirmed. On CamVid, for which none is published, 400 epochs.
"""

from torch.optim import SGD

optim = dict(optimizer=dict(type=SGD, lr=0.045, momentum=0.9, weight_decay=4e-5))
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, warmup=1 / 46, power=0.9)
on = dict(
    cityscapes=dict(data=dict(batch_size=12), schedule=dict(steps=80000, val_interval=0.1, warmup=0.0125)),
    camvid=dict(schedule=dict(steps=9200)),
)
