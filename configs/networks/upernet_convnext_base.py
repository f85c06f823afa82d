"""UPerNet (Xiao et al. 2018) on ConvNeXt-B, of smp, as ConvNeXt's authors train it: AdamW 1e-4, linear decay.

Cross entropy, and an auxiliary head on the third stage, weight 0.4; drop path 0.4. The published decay of the learning
rate over the encoder's depth (0.9 for each of 12 steps) is left out. 160,000 steps of batch 16, published for ADE20K,
on Cityscapes as well; elsewhere 400 epochs. With a network, start the encoder from ImageNet: ``--set
model.network.pretrained=True`` (timm downloads it on first use).
"""

from torch.optim import AdamW

from segkd.supervision import AuxHead, CrossEntropy

network = dict(drop_path_rate=0.4)
supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(
        tap="encoder.model.stages_2", head=dict(type=AuxHead, middle=256), loss=dict(type=CrossEntropy), weight=0.4
    ),
)
optim = dict(optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, warmup=1500 / 9200, power=1.0)
_published = dict(schedule=dict(steps=160000, val_interval=0.1, warmup=1500 / 160000))
on = dict(
    cityscapes=_published,
    ade20k=_published,
    camvid=dict(data=dict(augment=dict(scale=(0.5, 2.0), photometric=True)), schedule=dict(steps=9200)),
)
