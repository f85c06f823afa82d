"""CGNet (Wu et al. 2021), as its authors train it: Adam, weighted classes, 300 epochs (Cityscapes), 800 (CamVid).

On Cityscapes batches of 16 crops of 680 x 680, as published for the train set; on CamVid of 8 of 360 x 360, where they
train on train and val, here on train alone. Their scale is one of 0.5, 0.6, .. 2; their class weights, 1 / ln(1.10 +
frequency), leave void out of the total; they count train and val, here it is train.
"""

from torch.optim import Adam

from segkd.supervision import CrossEntropy

supervision = dict(main=dict(loss=dict(type=CrossEntropy, class_weight="@cgnet")))
optim = dict(optimizer=dict(type=Adam, lr=1e-3, weight_decay=5e-4))
data = dict(augment=dict(scale=(0.5, 2.0), photometric=False), batch_size=16)
schedule = dict(epochs=300, val_interval=0.05, power=0.9)
on = dict(
    cityscapes=dict(
        data=dict(augment=dict(crop_size=(680, 680))),
        schedule=dict(steps=55500, val_interval=0.1),  # 185 full batches an epoch
    ),
    camvid=dict(
        network=dict(mean=(99.63, 103.33, 105.66)),  # of train and val, as the authors'
        data=dict(augment=dict(crop_size=(360, 360)), batch_size=8),
        schedule=dict(steps=36000),
    ),
)
