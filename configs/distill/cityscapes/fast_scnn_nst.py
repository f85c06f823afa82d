"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: neuron selectivity transfer.

Weight as for classification; there is none published for segmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from segkd.losses.nst import NeuronSelectivity

model.update(
    binds=dict(
        selectivity=dict(
            student="head",
            teacher="decoder",
            loss=dict(type=NeuronSelectivity),
            weight=50.0,
        ),
    )
)
