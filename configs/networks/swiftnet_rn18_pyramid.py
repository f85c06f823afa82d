"""SwiftNetRN-18 with pyramid (Orsic, Segvic 2021): cross entropy, larger near boundaries and where it is unsure.

The rest is as SwiftNetRN-18. Limits and factors of the authors' configuration (their code's defaults are 4, 16, 64, 128
and 8, 6, 4, 2, 1); distances as they measure them, by OpenCV on the crop, 1 beside another class. A pixel next to void,
and so to padding, is at a boundary, as theirs; void itself takes no part. Unlike theirs, several processes share one
count of valid pixels.
"""

from mmengine.config import read_base

with read_base():
    from .swiftnet_rn18 import *

from segkd.supervision import BoundaryWeightedCE

_loss = dict(type=BoundaryWeightedCE, distances=(16, 64, 128), factors=(8.0, 4.0, 2.0, 1.0), void_is_class=True)
supervision = dict(main=dict(loss=_loss))
