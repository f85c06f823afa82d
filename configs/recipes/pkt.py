"""Probabilistic knowledge transfer of pixels (Passalis, Tefas 2018) in the head's last feature.

RepDistiller's weight 30000 at 64 samples; there is none published for segmentation.
"""

from segkd.losses.pkt import ProbabilisticTransfer

binds = dict(
    probabilities=dict(student="@head", teacher="@head", loss=dict(type=ProbabilisticTransfer), weight=469.0),
)
