"""DPT on ViT-B/16 (Ranftl et al. 2021) of smp, as MMSegmentation trains it on ADE20K: AdamW 6e-5, linear decay.

160,000 steps of batch 16 there, elsewhere 400 epochs; neither positions nor the class token decay. With a network,
start the encoder from ImageNet: ``--set model.network.pretrained=True`` (timm downloads it on first use).
"""

from torch.optim import AdamW

_undecayed = dict(decay_mult=0.0)
optim = dict(
    optimizer=dict(type=AdamW, lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise=dict(norm_decay_mult=0.0, custom_keys=dict(pos_embed=_undecayed, cls_token=_undecayed)),
)
data = dict(batch_size=16)
schedule = dict(epochs=400, val_interval=0.05, warmup=1500 / 160000, power=1.0)
on = dict(ade20k=dict(schedule=dict(steps=160000, val_interval=0.1)))
