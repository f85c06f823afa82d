"""ESPNet and its encoder ESPNet-C: Efficient Spatial Pyramid of Dilated Convolutions (Mehta et al., ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, Result, Roles, resize_to
from segkd.models.blocks import ESP_DILATIONS, NormAct, SpatialPyramid
from segkd.models.fusion import crop_to
from segkd.models.published import Published, load_published

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


# Published module name -> ours, applied in this order. A file of ESPNet-C has the encoder's names without "encoder.".
KEY_MAP = (
    (r"^(?=(level[123](_0)?|b[123]|classifier\.conv)\.)", "encoder."),
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


def _published(mean: Sequence[float], std: Sequence[float], **options: str) -> Published:
    # Trained on (x - mean) / std / 255 in BGR: the last division is the authors' own, and the weights depend on it.
    deviations = [255 * s for s in std]
    return Published(KEY_MAP, mean, deviations, 1.0, "BGR", options)


#: Those of Cityscapes (20 outputs, the last is void) were trained and are to be used at 1024 x 512: the authors
#: normalise, then halve the image (bilinear), then divide by 255. All three are linear, so an image that is halved in
#: floating point before ``preprocess`` gives the same input.
PUBLISHED = {
    "camvid": _published((110.331, 108.409, 105.033), (72.126, 72.691, 69.904)),
    "cityscapes": _published(
        (72.3923111, 82.90893555, 73.15840149), (45.3192215, 46.15289307, 44.91483307), decoder="test"
    ),
}


@NETWORKS.register("espnet")
class ESPNet(Network):
    """ESPNet: 0.36 M parameters, dilated pyramids in a small encoder, a learned decoder up to full size.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, outputs or num_classes, H, W). Initialised as torch does by
    default, like the authors' code; they train ESPNet-C first and start from it (``encoder`` has the same names in
    both).

    Args:
        num_classes: outputs the weights have.
        p, q: ESP blocks at stride 4 and 8; published with p = 2 and q = 3, 5 and 8.
        decoder: "train" joins the stem together with the pooled image (19 channels), as the published CamVid weights
            do; "test" joins the stem alone (16), as the published Cityscapes weights do. Default: that of
            ``published``, else "train".
        weights: local file: of this network's state dict, or a published one with ``published``.
        outputs: keep only the first so many logits (a published file's last output is void); ``num_classes`` of the
            built network is then this number.
        published: "camvid" or "cityscapes": ``weights`` is the authors' file; sets its names, preprocessing and decoder
            (see ``PUBLISHED`` for the size that those of Cityscapes expect).
    """

    paper = "Mehta, Rastegari, Caspi, Shapiro, Hajishirzi, ECCV 2018, arXiv:1803.06815"
    # the decoder fuses class scores: the last features are those that the encoder's classifier reads
    roles: Roles = {
        "head": "encoder.join3",
        "backbone": "encoder.join3",
        "stages": ("encoder.join1", "encoder.join2", "encoder.join3"),
    }
    results = (
        Result("cityscapes", "test", 60.34, 112, "Titan X", source="repository"),
        Result("camvid", "test", 55.64, source="repository"),
    )
    authors_name = r"^(encoder\.)?level1\.conv\.weight$"

    def __init__(
        self,
        num_classes: int,
        p: int = 2,
        q: int = 8,
        decoder: str | None = None,
        weights: str | Path | None = None,
        outputs: int | None = None,
        published: str | None = None,
    ) -> None:
        check_arguments(num_classes, p, q, outputs, published, weights)
        check_pyramid(num_classes)
        decoder = decoder or (PUBLISHED[published].options.get("decoder", "train") if published else "train")
        if decoder not in ("train", "test"):
            raise UserError(f"ESPNet decoder must be 'train' or 'test', got {decoder!r}")
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
        self.roles = narrowed(self.roles, num_classes, outputs)
        if weights is not None:
            load_published(self, weights, published, PUBLISHED)

    def forward(self, x: Tensor) -> Tensor:
        stem, level1, level2, coarse = self.encoder(x)
        up = crop_to(self.up3(self.coarse_norm(coarse)), level2)
        merged = self.merge(torch.cat([self.project2(level2), up], dim=1))
        fine = level1 if self.joins_image else stem
        refined = self.refine(torch.cat([crop_to(self.up2(merged), fine), fine], dim=1))
        return crop_to(self.classifier(refined), x)[:, : self.num_classes]


@NETWORKS.register("espnet_c")
class ESPNetC(Network):
    """ESPNet-C, the encoder of ESPNet alone: 0.35 M parameters, logits made at stride 8 and resized (bilinear).

    Input (N, 3, H, W) for any H, W >= 32, logits (N, outputs or num_classes, H, W). The authors compare logits and
    label at 1/8 of the size in training. Initialised as torch does by default, like theirs.

    Args:
        num_classes: outputs the weights have.
        p, q: ESP blocks at stride 4 and 8; published with p = 2 and q = 3, 5 and 8.
        weights, outputs, published: see ``ESPNet``; there are published files for "cityscapes".
    """

    paper = ESPNet.paper
    roles: Roles = {
        "classifier": "encoder.classifier",
        "backbone": "encoder.join3",
        "stages": ("encoder.join1", "encoder.join2", "encoder.join3"),
    }
    authors_name = ESPNet.authors_name

    def __init__(
        self,
        num_classes: int,
        p: int = 2,
        q: int = 8,
        weights: str | Path | None = None,
        outputs: int | None = None,
        published: str | None = None,
    ) -> None:
        check_arguments(num_classes, p, q, outputs, published, weights)
        if published == "camvid":
            raise UserError(f"there are no published weights of ESPNet-C for {published!r}")
        super().__init__(outputs or num_classes, PUBLISHED[published].preprocess() if published else None)
        self.encoder = Encoder(num_classes, p, q)
        self.feature_info = describe_encoder(num_classes)
        self.roles = narrowed(self.roles, num_classes, outputs)
        if weights is not None:
            load_published(self, weights, published, PUBLISHED)

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.encoder(x)[3][:, : self.num_classes]
        return resize_to(coarse, x.shape[-2:])


def describe_encoder(num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of the encoder; ``num_classes`` are those of the weights, before ``outputs`` cuts them."""
    return (
        FeatureInfo("encoder.join1", 19, 2),
        FeatureInfo("encoder.join2", 131, 4),
        FeatureInfo("encoder.join3", 256, 8),
        FeatureInfo("encoder.classifier", num_classes, 8),
    )


def describe(num_classes: int) -> tuple[FeatureInfo, ...]:
    """Taps of an ESPNet; its last layers have the channels of the weights, before ``outputs`` cuts them."""
    return (
        *describe_encoder(num_classes),
        FeatureInfo("merge", num_classes, 4),
        FeatureInfo("refine", num_classes, 2),
        FeatureInfo("classifier", num_classes, 1),
    )


def narrowed(roles: Roles, num_classes: int, outputs: int | None) -> Roles:
    """The roles; where outputs are cut off behind the classifier, its part is played by the logits themselves."""
    return roles if outputs in (None, num_classes) else {**roles, "classifier": ""}


def check_pyramid(num_classes: int) -> None:
    """Refuse classes too few for the decoder's pyramid."""
    if num_classes < len(ESP_DILATIONS):
        raise UserError(
            f"ESPNet splits its classes into {len(ESP_DILATIONS)} branches, so num_classes={num_classes} is too few; "
            f"use num_classes={len(ESP_DILATIONS)} with outputs={num_classes}"
        )


def check_arguments(
    num_classes: int, p: int, q: int, outputs: int | None, published: str | None, weights: object
) -> None:
    """Refuse arguments of which no network can be built."""
    if p < 1 or q < 1:
        raise UserError(f"ESPNet needs p >= 1 and q >= 1 blocks, got p={p}, q={q}")
    if outputs is not None and not 2 <= outputs <= num_classes:
        raise UserError(f"ESPNet outputs must lie in 2..num_classes={num_classes}, got {outputs}")
    if published is not None and published not in PUBLISHED:
        raise UserError(f"ESPNet knows no published weights {published!r}; {nearest(published, PUBLISHED)}")
    if published is not None and weights is None:
        raise UserError(f"ESPNet published={published!r} says how to read a weights file: give it as weights=...")
