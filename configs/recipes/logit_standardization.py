"""KD of standardised logits (Sun et al. 2024).

Published for classification, with temperature 2 and weight 9.
"""

from segkd.losses.kd import PixelwiseKD
from segkd.losses.logit_standardization import LogitStandardization

binds = dict(
    logits=dict(
        student="@logits",
        teacher="@logits",
        loss=dict(type=LogitStandardization, loss=dict(type=PixelwiseKD, temperature=2.0)),
        weight=9.0,
    ),
)
on = dict(cityscapes=dict(binds=dict(logits=dict(student="@classifier", teacher="@classifier"))))
