"""The pixel-wise term of structured knowledge distillation (Liu et al., CVPR 2019, arXiv 1903.04197)."""

from __future__ import annotations

from segkd.losses import kd
from segkd.losses.base import LOSSES


def published_scale(
    N: int,  # noqa: N803
    C: int,  # noqa: N803
    K: int,  # noqa: N803
    H: int,  # noqa: N803
    W: int,  # noqa: N803
    temperature: float = 1.0,
    published: str = "skd",
) -> float:
    """``published value = published_scale(...) * (value + the teacher's mean entropy per pixel)``: N for "skd".

    The authors sum the cross entropy, not the KL, over the batch and divide by H * W alone. The teacher's entropy has
    no gradient: the published gradient is N times this one's. Other publications are those of ``kd.published_scale``.
    """
    return kd.published_scale(N=N, C=C, K=K, H=H, W=W, temperature=temperature, published=published)


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

    def __init__(self) -> None:
        super().__init__(temperature=1.0)
