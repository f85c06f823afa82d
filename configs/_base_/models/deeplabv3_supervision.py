"""DeepLabV3's supervision: cross entropy on the logits, and torchvision's auxiliary head on the third stage.

A 3x3 convolution to a quarter of the channels, weight 0.5, as torchvision trains it.
"""

from segkd.supervision import AuxHead, CrossEntropy

supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(tap="backbone.layer3", head=dict(type=AuxHead, middle=256), loss=dict(type=CrossEntropy), weight=0.5),
)
