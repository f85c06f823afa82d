"""SwiftNetRN-18 (Orsic et al. 2019), as its authors train it: Adam with cosine decay, 250 epochs on Cityscapes.

Batches of 14 crops of 768 x 768. They start from ImageNet weights, which learn at a quarter of the rate with a quarter
of the weight decay: ``model.network.pretrained=True`` and
``optim.paramwise={"custom_keys":{"trunk":{"lr_mult":0.25,"decay_mult":0.25}}}``. Their results on CamVid are of images
of 960 x 720; here it is 400 epochs at 480 x 360.
"""

from torch.optim import Adam

optim = dict(optimizer=dict(type=Adam, lr=4e-4, betas=(0.9, 0.99), weight_decay=1e-4))
data = dict(augment=dict(scale=(0.5, 2.0), photometric=False), batch_size=14)
schedule = dict(epochs=400, val_interval=0.05, policy="cosine", min_lr=1e-6)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(crop_size=(768, 768))),
        schedule=dict(steps=53000, val_interval=0.1),  # 212 full batches an epoch
    ),
    camvid=dict(schedule=dict(steps=10400)),
)
