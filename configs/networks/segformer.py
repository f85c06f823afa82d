"""SegFormer (Xie et al. 2021) of smp, as published: AdamW 6e-5, ten times that in the decoder, linear decay.

160,000 steps of batch 8 on Cityscapes, on crops of 1024 x 1024; elsewhere 400 epochs, as none is published. With a
network, start the encoder from ImageNet: ``--set model.network.pretrained=True`` (smp downloads it on first use).
"""

from torch.optim import AdamW

optim = dict(
    optimizer=dict(type=AdamW, lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(decoder=dict(lr_mult=10.0), segmentation_head=dict(lr_mult=10.0)),
    ),
)
data = dict(batch_size=8)
schedule = dict(epochs=400, val_interval=0.05, warmup=1500 / 18400, power=1.0)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(crop_size=(1024, 1024))),
        schedule=dict(steps=160000, val_interval=0.1, warmup=1500 / 160000),
    ),
    camvid=dict(data=dict(augment=dict(scale=(0.5, 2.0), photometric=True)), schedule=dict(steps=18400)),
)
