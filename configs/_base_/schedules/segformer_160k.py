"""SegFormer's schedule: AdamW, learning rate 6e-5 and ten times that in the decoder, linear decay after a warm-up."""

from torch.optim import AdamW

schedule = dict(steps=160000, val_interval=16000, warmup=1500, power=1.0)
optim = dict(
    optimizer=dict(type=AdamW, lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(decoder=dict(lr_mult=10.0), segmentation_head=dict(lr_mult=10.0)),
    ),
)
engine = dict(precision="auto", channels_last=True)
seed = 0
