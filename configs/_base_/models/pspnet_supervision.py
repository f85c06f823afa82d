"""PSPNet's supervision: cross entropy on the logits, and on a head at the third stage with weight 0.4.

As the authors' PyTorch code has it, but for the auxiliary logits' resize (theirs keeps the corners) and dropout (theirs
drops whole channels).
"""

from segkd.supervision import AuxHead, CrossEntropy

supervision = dict(
    main=dict(loss=dict(type=CrossEntropy)),
    aux=dict(tap="layer3", head=dict(type=AuxHead, middle=256), loss=dict(type=CrossEntropy), weight=0.4),
)
