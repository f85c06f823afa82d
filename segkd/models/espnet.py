"""ESPNet: Efficient Spatial Pyramid of Dilated Convolutions (Mehta et al., ECCV 2018, arXiv:1803.06815)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, Preprocess, Result, apply_weights, read_tensors
from segkd.models.blocks import ESP_DILATIONS, NormAct, SpatialPyramid
from segkd.models.fusion import crop_to

EPS = 1e-3


class ConvNormPReLU(NormAct):
    """3x3 convolution without bias, BatchNorm, PReLU; (N, cin, H, W) -> (N, cout, ceil(H / stride), ...)."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(cout)
        self.conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


class Encoder(nn.Module):
    """ESPNet-C: three levels, each joined with the average-pooled image; logits at stride 8."""

    def __init__(self, num_classes: int, p: int, q: int) -> None:
        super().__init__()
        self.stem = ConvNormPReLU(3, 16, stride=2)
        self.join1 = NormAct(16 + 3)
        self.down2 = SpatialPyramid(16 + 3, 64, down=True)
        self.stage2 = nn.Sequential(*(SpatialPyramid(64, 64) for _ in range(p)))
        self.join2 = NormAct(64 + 64 + 3)
        self.down3 = SpatialPyramid(64 + 64 + 3, 128, down=True)
        self.stage3 = nn.Sequential(*(SpatialPyramid(128, 128) for _ in range(q)))
        self.join3 = NormAct(128 + 128)
        self.classifier = nn.Conv2d(128 + 128, num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, 3, H, W) -> stem (16 channels, stride 2), level 1 (19, 2), level 2 (131, 4), logits (K, 8)."""
        half = F.avg_pool2d(x, 3, 2, 1)
        quarter = F.avg_pool2d(half, 3, 2, 1)
        stem = self.stem(x)
        level1 = self.join1(torch.cat([stem, half], dim=1))
        down = self.down2(level1)
        level2 = self.join2(torch.cat([self.stage2(down), down, quarter], dim=1))
        down = self.down3(level2)
        level3 = self.join3(torch.cat([down, self.stage3(down)], dim=1))
        return stem, level1, level2, self.classifier(level3)


class Published:
    """A weights file as its authors published it: which names it uses, and the preprocessing it was trained with."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        # Trained on (x - mean) / std / 255 in BGR: the last division is the authors' own, and the weights depend on it.
        self.mean = tuple(mean)
        self.std = tuple(255 * s for s in std)

    def preprocess(self) -> Preprocess:
        return Preprocess(self.mean, self.std, scale=1.0, channels="BGR")


PUBLISHED = {"camvid": Published(mean=(110.331, 108.409, 105.033), std=(72.126, 72.691, 69.904))}

# Published module name -> ours, applied in this order.
KEY_MAP = (
    (r"^encoder\.level1\.", "encoder.stem."),
    (r"^encoder\.level([23])_0\.", r"encoder.down\1."),
    (r"^encoder\.level([23])\.", r"encoder.stage\1."),
    (r"^encoder\.b([123])\.", r"encoder.join\1."),
    (r"^encoder\.classifier\.conv\.", "encoder.classifier."),
    (r"^level3_C\.conv\.", "project2."),
    (r"^br\.", "coarse_norm."),
    (r"^up_l3\.0\.", "up3."),
    (r"^combine_l2_l3\.", "merge."),
    (r"^up_l2\.", "up2."),
    (r"^conv\.", "refine."),
    (r"\.c1\.conv\.", ".reduce."),
    *((rf"\.d{d}\.conv\.", f".branches.{i}.") for i, d in enumerate(ESP_DILATIONS)),
    (r"\.bn\.act\.", ".act."),
    (r"\.bn\.bn\.", ".norm."),
    (r"\.bn\.", ".norm."),
)


def our_key(key: str) -> str:
    """The name in this file's networks of a tensor in a published one."""
    for pattern, name in KEY_MAP:
        key = re.sub(pattern, name, key)
    return key


@NETWORKS.register("espnet")
class ESPNet(Network):
    """ESPNet: 0.36 M parameters, dilated pyramids in a small encoder, a learned decoder up to full size.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, outputs or num_classes, H, W).

    Args:
        num_classes: outputs the weights have.
        p, q: ESP blocks at stride 4 and 8.
        decoder: "train" joins the stem together with the pooled image (19 channels), as the published CamVid weights
            do; "test" joins the stem alone (16), as the published Cityscapes weights do.
        weights: local file: of this network's state dict, or a published one with ``published``.
        outputs: keep only the first so many logits (a published file's last output is void); ``num_classes`` of the
            built network is then this number.
        published: "camvid": ``weights`` is the authors' file; sets its names and preprocessing.
    """

    paper = "Mehta, Rastegari, Caspi, Shapiro, Hajishirzi, ECCV 2018, arXiv:1803.06815"
    results = (
        Result("cityscapes", "test", 60.34, source="repository"),
        Result("camvid", "test", 55.64, source="repository"),
    )

    def __init__(
        self,
        num_classes: int,
        p: int = 2,
        q: int = 8,
        decoder: str = "train",
        weights: str | Path | None = None,
        outputs: int | None = None,
        published: str | None = None,
    ) -> None:
        check_arguments(num_classes, p, q, decoder, outputs, published, weights)
        super().__init__(outputs or num_classes, PUBLISHED[published].preprocess() if published else None)
        self.joins_image = decoder == "train"
        self.encoder = Encoder(num_classes, p, q)
        self.coarse_norm = nn.BatchNorm2d(num_classes, eps=EPS)
        self.up3 = nn.ConvTranspose2d(num_classes, num_classes, 2, 2, bias=False)
        self.project2 = nn.Conv2d(131, num_classes, 1, bias=False)
        self.merge = nn.Sequential(
            NormAct(2 * num_classes), SpatialPyramid(2 * num_classes, num_classes, residual=False)
        )
        self.up2 = nn.Sequential(nn.ConvTranspose2d(num_classes, num_classes, 2, 2, bias=False), NormAct(num_classes))
        self.refine = ConvNormPReLU(num_classes + (19 if self.joins_image else 16), num_classes)
        self.classifier = nn.ConvTranspose2d(num_classes, num_classes, 2, 2, bias=False)
        self.feature_info = describe(num_classes)
        if weights is not None:
            load(self, weights, published)

    def forward(self, x: Tensor) -> Tensor:
        stem, level1, level2, coarse = self.encoder(x)
        up = crop_to(self.up3(self.coarse_norm(coarse)), level2)
        merged = self.merge(torch.cat([self.project2(level2), up], dim=1))
        fine = level1 if self.joins_image else stem
        refined = self.refine(torch.cat([crop_to(self.up2(merged), fine), fine], dim=1))
        return crop_to(self.classifier(refined), x)[:, : self.num_classes]


def describe(num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of an ESPNet; its last layers have the channels of the weights, before ``outputs`` cuts them."""
    return (
        FeatureInfo("encoder.join1", 19, 2),
        FeatureInfo("encoder.join2", 131, 4),
        FeatureInfo("encoder.join3", 256, 8),
        FeatureInfo("encoder.classifier", num_classes, 8),
        FeatureInfo("merge", num_classes, 4),
        FeatureInfo("refine", num_classes, 2),
        FeatureInfo("classifier", num_classes, 1),
    )


def check_arguments(
    num_classes: int, p: int, q: int, decoder: str, outputs: int | None, published: str | None, weights: object
) -> None:
    """A UserError for what cannot be built."""
    if num_classes < len(ESP_DILATIONS):
        raise UserError(
            f"ESPNet splits its classes into {len(ESP_DILATIONS)} branches, so num_classes={num_classes} is too few; "
            f"use num_classes={len(ESP_DILATIONS)} with outputs={num_classes}"
        )
    if p < 1 or q < 1:
        raise UserError(f"ESPNet needs p >= 1 and q >= 1 blocks, got p={p}, q={q}")
    if decoder not in ("train", "test"):
        raise UserError(f"ESPNet decoder must be 'train' or 'test', got {decoder!r}")
    if outputs is not None and not 2 <= outputs <= num_classes:
        raise UserError(f"ESPNet outputs must lie in 2..num_classes={num_classes}, got {outputs}")
    if published is not None and published not in PUBLISHED:
        raise UserError(f"ESPNet knows no published weights {published!r}; {nearest(published, PUBLISHED)}")
    if published is not None and weights is None:
        raise UserError(f"ESPNet published={published!r} says how to read a weights file: give it as weights=...")


def load(network: ESPNet, path: str | Path, published: str | None) -> None:
    """Load a file of ours, or with ``published`` the authors', strictly.

    The authors' file lacks what did not exist then: BatchNorm's step counters (0 is right, momentum is fixed) and our
    preprocessing.
    """
    tensors = read_tensors(path)
    if not published:
        if "encoder.level1.conv.weight" in tensors:
            raise UserError(f"{path} has the names of the authors' own files; say published='camvid' if it is theirs")
        apply_weights(network, tensors, str(path))
        return
    later = {
        key: value
        for key, value in network.state_dict().items()
        if key.startswith("preprocess.") or key.endswith(".num_batches_tracked")
    }
    renamed = {our_key(key): value for key, value in tensors.items()}
    apply_weights(network, {**later, **renamed}, str(path))
