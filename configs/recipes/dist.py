"""DIST of the logits (Huang et al. 2022): correlations between and within classes, at the published weight.

The 0.4 on auxiliary heads is left out, as teacher and student have different ones.
"""

from segkd.losses.dist import StrongerTeacher

binds = dict(
    logits=dict(student="@logits", teacher="@logits", loss=dict(type=StrongerTeacher), weight=1.0),
)
on = dict(cityscapes=dict(binds=dict(logits=dict(student="@classifier", teacher="@classifier"))))
