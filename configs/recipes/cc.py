"""Correlation congruence of pixels (Peng et al. 2019) in the head's last feature.

The weight published for classification, 0.003, has no effect on pixels; 1 gives a hundredth of the labels' gradient.
"""

from segkd.losses.cc import CorrelationCongruence

binds = dict(correlation=dict(student="@head", teacher="@head", loss=dict(type=CorrelationCongruence), weight=1.0))
