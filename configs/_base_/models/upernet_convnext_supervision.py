"""The supervision of UPerNet on ConvNeXt: cross entropy, and an auxiliary head on the third stage, weight 0.4."""

from segkd.supervision import AuxHead, CrossEntropy

supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(
        tap="encoder.model.stages_2", head=dict(type=AuxHead, middle=256), loss=dict(type=CrossEntropy), weight=0.4
    ),
)
