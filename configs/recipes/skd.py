"""Structured knowledge distillation (Liu et al. 2019): its pixel-wise, pair-wise and holistic terms.

Weights of the authors' script: 10 on a sum over a batch of 8, 0.5, 0.1. The critic trains by IFVD's Adam at 4e-4 (SKD:
SGD at 4e-4).
"""

from segkd.losses.skd_holistic import Holistic
from segkd.losses.skd_pair import PairWise
from segkd.losses.skd_pixel import SKDPixel

binds = dict(
    pixel=dict(student="@logits", teacher="@logits", loss=dict(type=SKDPixel), weight=80.0),
    pair=dict(student="@head", teacher="@head", loss=dict(type=PairWise, pool=("scale", 0.5)), weight=0.5),
    holistic=dict(student="@classifier", teacher="@classifier", loss=dict(type=Holistic), weight=0.1),
)
on = dict(cityscapes=dict(binds=dict(pixel=dict(student="@classifier", teacher="@classifier"))))
