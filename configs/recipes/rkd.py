"""Relations of pixels (Park et al. 2019) in the head's last feature: distances and angles.

Weights 25 (distances) and 50 (angles) as published for classification.
"""

from segkd.losses.rkd import RelationalKD

binds = dict(relations=dict(student="@head", teacher="@head", loss=dict(type=RelationalKD), weight=1.0))
