"""ICNet's cascade label guidance: cross entropy at strides 4, 8 and 16, each against the label at that size.

The two lower ones see, through a 1x1 convolution, the maps that the fusions resize. Their weights, 0.4, are those of
MMSegmentation: the authors' training code is not public (an early TensorFlow port has 0.16 at stride 16).
"""

from segkd.supervision import AuxHead, CrossEntropy

_auxiliary = dict(head=dict(type=AuxHead, middle=0), loss=dict(type=CrossEntropy), weight=0.4)
supervision = dict(
    main=dict(loss=dict(type=CrossEntropy), stride=4),
    aux8=dict(tap="fusion16", stride=8, **_auxiliary),
    aux16=dict(tap="context", stride=16, **_auxiliary),
)
