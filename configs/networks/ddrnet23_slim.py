"""DDRNet-23-slim (Hong et al. 2021): OHEM on the logits, and with weight 0.4 on the first high-resolution sum.

The authors ask for crops of 1024 x 1024 and hard pixels; as their training code is not public, the rest is that of
ports: thresholds and weights of MMSegmentation, which reaches their mIoU, and HRNet's schedule, with its class weights
on Cityscapes alone. All start from ImageNet weights; here the start is random unless ``model.network.weights`` names a
file. Their results on CamVid are for 960 x 720, without a recipe.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.hrnet import *

from segkd.supervision import OHEM, AuxHead

_ohem = dict(type=OHEM, threshold=0.9, min_kept=131072, select="probability")
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    aux=dict(
        tap="to_detail3",
        head=dict(type=AuxHead, middle=64, norm_first=True, init="fan_out"),
        loss=dict(**_ohem),
        weight=0.4,
    ),
)
_weighted = dict(loss=dict(class_weight=class_weight))
on["cityscapes"].update(supervision=dict(main=_weighted, aux=_weighted))
