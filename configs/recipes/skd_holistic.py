"""SKD's holistic term (Liu et al. 2019): a critic that sees the image and the logits at their own stride.

Published weight; the critic has its own optimiser, optim.critic: IFVD's Adam at 4e-4 (SKD: SGD at 4e-4).
"""

from segkd.losses.skd_holistic import Holistic

binds = dict(holistic=dict(student="@classifier", teacher="@classifier", loss=dict(type=Holistic), weight=0.1))
