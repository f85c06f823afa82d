"""Fast-SCNN's supervision: cross entropy on the logits, and an auxiliary head on each branch, weight 0.4 (paper, 3.3).

The auxiliary terms meet the label at a quarter of its size, which halves the time of a training step on a CPU.
"""

from segkd.supervision import AuxHead, CrossEntropy

_auxiliary = dict(head=dict(type=AuxHead), loss=dict(type=CrossEntropy), weight=0.4, stride=4)
supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux_detail=dict(tap="learning_to_downsample", **_auxiliary),
    aux_context=dict(tap="global_features", **_auxiliary),
)
