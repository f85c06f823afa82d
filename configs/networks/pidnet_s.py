"""PIDNet-S (Xu et al. 2023), as its authors train it: hard pixels, boundaries, and a term for pixels at boundaries.

OHEM on the logits, once over all and once over what the boundary head calls a boundary; cross entropy on the detail
branch, weight 0.4; boundaries on the boundary branch, weight 20. The authors' heads see their branch after its ReLU,
hence the inputs of the next blocks. As in their code, the cross entropy is divided by the number of all pixels, void
ones too, OHEM by that of those selected, neither by class weights, which are HRNet's on Cityscapes and none elsewhere.
Only Cityscapes' edges stay away from the border.

Where this differs from their code: the auxiliary logits are resized without aligned corners; boundaries are made of the
crop, where a class meets void there is none, and void takes no part in that loss (``void_is_class=True`` for theirs);
OHEM's least number is of the pixels of a process, with them of six crops on each of two GPUs. They start from ImageNet
weights; here the start is random unless ``model.network.weights`` names a file. Their CamVid results come from
Cityscapes weights, tuned on 960 x 720 (train and val) with lr 0.005 that decays over 200 epochs, of which 121 are run;
here it is 400 epochs from scratch.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.hrnet import *

from segkd.supervision import OHEM, AuxHead, BoundaryAwareCE, BoundaryBCE, BoundaryHead, CrossEntropy

_ohem = dict(type=OHEM, threshold=0.9, min_kept=131072, select="probability")
supervision = dict(
    main=dict(loss=dict(**_ohem)),
    detail=dict(
        tap="detail4@input",
        head=dict(type=AuxHead, middle=128, norm_first=True, init="fan_out"),
        loss=dict(type=CrossEntropy, divide_by="pixels"),
        weight=0.4,
    ),
    boundary=dict(
        tap="boundary5@input",
        head=dict(type=BoundaryHead, middle=32, norm_first=True, init="fan_out"),
        loss=dict(type=BoundaryBCE, width=4, border=0),
        weight=20.0,
    ),
    boundary_aware=dict(loss=dict(type=BoundaryAwareCE, threshold=0.8, loss=dict(**_ohem)), gate="boundary"),
)
_weighted = dict(loss=dict(class_weight=class_weight))
on["cityscapes"].update(
    supervision=dict(
        main=_weighted,
        detail=_weighted,
        boundary=dict(loss=dict(border=6)),
        boundary_aware=dict(loss=_weighted),
    )
)
