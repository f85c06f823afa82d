"""Knowledge adaptation (He et al. 2019) of the backbone's last feature; the teacher's autoencoder learns first.

Published weights 50 (adaptation) and 1 (affinity). The first stage takes half as long as the main training, on CamVid
and Cityscapes 30 epochs as factor transfer's (torchdistill: one, by SGD).
"""

from torch.optim import AdamW

from segkd.losses.knowledge_adaptation import KnowledgeAdaptation

binds = dict(
    adaptation=dict(
        student="@backbone",
        teacher="@backbone",
        loss=dict(type=KnowledgeAdaptation),
        weight=1.0,
        first_stage=dict(steps=0.5, optimizer=dict(type=AdamW, lr=1e-3)),
    ),
)
on = dict(
    camvid=dict(binds=dict(adaptation=dict(first_stage=dict(steps=1380 / 2750)))),
    cityscapes=dict(binds=dict(adaptation=dict(first_stage=dict(steps=7440 / 80000)))),
)
