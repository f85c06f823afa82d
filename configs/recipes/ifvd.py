"""Intra-class feature variation (Wang et al. 2020) of the head's last feature.

CIRKD's weight 20 on all pixels, of which nine tenths are labelled in Cityscapes.
"""

from segkd.losses.ifvd import IntraClassVariation

binds = dict(
    variation=dict(
        student="@head", teacher="@head", loss=dict(type=IntraClassVariation, num_classes="@classes"), weight=18.0
    ),
)
