"""For a network whose backbone begins with ImageNet weights: AdamW 1e-3, the backbone at 0.3 of it.

The average of the weights is kept, too. The backbone by ``--set model.network.pretrained=FILE``. Wide scales and varied
colours: such a network knows them, and CamVid has 367 images. Ours; on CamVid 10,000 steps of batch 8 (218 epochs),
which take 4 hours of two CPU cores with ``light_fpn_tf_efficientnet_lite2``.
"""

from torch.optim import AdamW

optim = dict(
    optimizer=dict(type=AdamW, lr=1e-3, weight_decay=1e-2), paramwise=dict(custom_keys={"encoder": dict(lr_mult=0.3)})
)
data = dict(augment=dict(scale=(0.5, 2.0), photometric=True), batch_size=8)
schedule = dict(epochs=220, val_interval=0.025, warmup=0.02, power=0.9)
engine = dict(precision="auto", channels_last=True, ema=0.999)
on = dict(camvid=dict(schedule=dict(steps=10000)))
