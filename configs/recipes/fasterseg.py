"""FasterSeg's own distillation (Chen et al. 2020): KL divergence of the full-size logits at temperature 1.

The authors' mean is over classes too, hence a weight of one in as many as there are. They teach FasterSeg by its
teacher (``fasterseg_teacher``).
"""

from segkd.losses.kd import PixelwiseKD

binds = dict(
    pixel=dict(student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD, temperature=1.0), weight="@1/classes"),
)
