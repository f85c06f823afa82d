"""mmsegmentation's schedules: SGD 0.01, momentum 0.9, weight decay 5e-4, polynomial decay of power 0.9 down to 1e-4.

Ten validations. Scales of 0.5 to 2, mirrors and varied colours; batches of 16 crops of 512 x 512, and of 8 crops of
512 x 1024 for street scenes of megapixels. Of mmsegmentation 1.2: configs/_base_/schedules, and 4xb4 and 4xb2 in the
names of its configs.
"""

from torch.optim import SGD

optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(augment=dict(crop_size=(512, 512), scale=(0.5, 2.0), flip=0.5, photometric=True), batch_size=16)
schedule = dict(steps=40000, val_interval=0.1, policy="poly", power=0.9, min_lr=1e-4)
on = dict(
    cityscapes=dict(data=dict(augment=dict(crop_size=(512, 1024)), batch_size=8)),
    camvid=dict(data=dict(augment=dict(crop_size=(360, 360)))),
    synthetic=dict(data=dict(augment=dict(crop_size=(256, 512)))),
    pascal_context=dict(data=dict(augment=dict(crop_size=(480, 480)))),
)
