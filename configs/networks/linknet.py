"""LinkNet (Chaurasia, Culurciello 2017), as its authors train it: RMSprop 5e-4, a tenth of it twice in 300 epochs.

Its encoder starts from ImageNet: ``--set model.network.pretrained=True`` with a network (torchvision downloads it). The
authors weigh the classes by 1 / ln(1.02 + frequency / highest frequency) and do not augment. They halve Cityscapes'
images for training and test; here images keep the size at which they are scored, in random crops. On CamVid they use
whole images of 768x576 in a split of their own, here of 480x360, and subtract the mean image, here its mean. The steps
down, after 100 and 200 epochs, are those of their options; their code as it stands multiplies by 1e-7.
"""

from torch.optim import RMSprop

from segkd.supervision import CrossEntropy

supervision = dict(main=dict(loss=dict(type=CrossEntropy, class_weight="@linknet")))
optim = dict(optimizer=dict(type=RMSprop, lr=5e-4))
data = dict(augment=dict(scale=None, flip=0.0, photometric=False), batch_size=8)
schedule = dict(epochs=300, val_interval=1 / 30, policy="step", milestones=[1 / 3, 2 / 3], gamma=0.1)
on = dict(
    cityscapes=dict(schedule=dict(steps=111600)),
    camvid=dict(
        network=dict(mean=(104.95, 108.37, 110.20)),
        data=dict(augment=dict(crop_size=(360, 480))),
        schedule=dict(steps=13800),
    ),
)
