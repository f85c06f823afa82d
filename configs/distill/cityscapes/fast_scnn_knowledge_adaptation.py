"""Fast-SCNN on Cityscapes taught by DeepLabV3+-R101: knowledge adaptation.

The teacher's autoencoder learns first. Published weights 50 (adaptation) and 1 (affinity).
The first stage takes 30 epochs as factor transfer's (torchdistill: one, by SGD).
"""

from mmengine.config import read_base

with read_base():
    from ..._base_.distill.cityscapes import *

from torch.optim import AdamW

from segkd.losses.knowledge_adaptation import KnowledgeAdaptation

model.update(
    binds=dict(
        adaptation=dict(
            student="fusion",
            teacher="decoder.aspp",
            loss=dict(type=KnowledgeAdaptation),
            weight=1.0,
            first_stage=dict(steps=7440, optimizer=dict(type=AdamW, lr=1e-3)),
        ),
    )
)
