"""SKD's pair-wise term (Liu et al. 2019) on the head's last feature: pooling and weight of the authors' script."""

from segkd.losses.skd_pair import PairWise

binds = dict(
    pair=dict(student="@head", teacher="@head", loss=dict(type=PairWise, pool=("scale", 0.5)), weight=0.5),
)
