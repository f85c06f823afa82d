"""Fast-SCNN on CamVid taught by the published ESPNet: neuron selectivity transfer.

Weight as for classification; there is none published for segmentation.
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.camvid import *

from segkd.losses.nst import NeuronSelectivity

model.update(
    binds=dict(
        selectivity=dict(
            student="head",
            teacher="encoder.join3",
            loss=dict(type=NeuronSelectivity),
            weight=50.0,
        ),
    )
)
