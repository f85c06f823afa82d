"""STDC-Seg's supervision: OHEM on the logits and on two heads on the context path, details on stride 8, of weight 1.

Where this differs from the authors' code: a sixteenth of the valid pixels is always kept, there of all; what is resized
here has no aligned corners; and where a class meets void there is no detail (``void_is_class=True`` for theirs).
"""

from segkd.supervision import OHEM, AuxHead, BoundaryHead, DetailLoss

_ohem = dict(type=OHEM, threshold=0.7)
_auxiliary = dict(
    head=dict(type=AuxHead, middle=64, dropout=0.0, classifier_bias=False, init="fan_in", slope=1.0), loss=_ohem
)
supervision = dict(
    main=dict(loss=_ohem),
    aux16=dict(tap="context.up16", **_auxiliary),
    aux8=dict(tap="context", **_auxiliary),
    detail=dict(
        tap="stage3",
        head=dict(type=BoundaryHead, middle=64, classifier_bias=False, init="fan_in", slope=1.0),
        loss=dict(type=DetailLoss),
    ),
)
