"""What DDRNet and PIDNet share, from HRNet's code: SGD with polynomial decay, its scales, its class weights.

484 epochs of Cityscapes in batches of 12 crops of 1024 x 1024, without changed colours. That code draws its scale from
0.5, 0.6, .. 2.1; here it is uniform in between. On CamVid, for which it has nothing at 480 x 360: 400 epochs.
"""

from torch.optim import SGD

optim = dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=5e-4))
data = dict(augment=dict(scale=(0.5, 2.1), photometric=False), batch_size=12)
schedule = dict(epochs=400, val_interval=0.05, power=0.9)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(crop_size=(1024, 1024))),
        schedule=dict(steps=119548, val_interval=1 / 13),  # 247 full batches an epoch
    ),
    camvid=dict(schedule=dict(steps=12200)),
)
#: of Cityscapes' classes
class_weight = [
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
]  # fmt: skip
