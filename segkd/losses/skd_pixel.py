"""The pixel-wise term of structured knowledge distillation (Liu et al., CVPR 2019, arXiv 1903.04197)."""

from __future__ import annotations

from segkd.losses import kd
from segkd.losses.base import LOSSES


@LOSSES.register("skd_pixel")
class SKDPixel(kd.PixelwiseKD):
    """``mean over pixels of KL(softmax(teacher) || softmax(student))`` (equation 1): ``kd`` at temperature 1.

    Taps: the logits (N, K, H, W) of both networks, before they are upsampled. Published for segmentation with weight 10
    on a sum over the batch: 10 * N here, 80 with the authors' batch of 8. It goes with ``skd_pair``, ``skd_holistic``.

    >>> import torch
    >>> logits = torch.randn(2, 19, 8, 16)
    >>> float(SKDPixel()(logits, logits))
    0.0
    """

    # Of the value + the teacher's mean entropy per pixel: the authors sum the cross entropy, not the KL, over the batch
    # and divide by H * W alone. The entropy has no gradient. Other publications are those of kd.
    published_scale = {"skd": "N"}

    def __init__(self) -> None:
        super().__init__(temperature=1.0)
