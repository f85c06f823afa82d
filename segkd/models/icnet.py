"""ICNet: Image Cascade Network (Zhao, Qi, Shen, Shi, Jia, ECCV 2018, arXiv:1704.08545)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.base import (
    NETWORKS,
    FeatureInfo,
    Network,
    Preprocess,
    Result,
    Roles,
    kaiming_init,
    load_weights,
    resize_corners,
)
from segkd.models.blocks import ConvNormAct, ResidualBottleneck

BGR_MEAN = (103.939, 116.779, 123.68)
MOMENTUM = 0.05  # BatchNorm's; Caffe, which counts from the other end, says 0.95
#: bins -> by how many 32nds of (size - 1) their windows are apart: 16, 10 and 5 of 33 rows as published, not thirds
STEPS = {2: 16, 3: 10, 6: 5}


def halved(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)); of an odd size, every second pixel."""
    return resize_corners(x, [(length + 1) // 2 for length in x.shape[-2:]])


def pool_windows(x: Tensor, bins: int) -> Tensor:
    """Means over ``bins`` x ``bins`` windows, which overlap; a map of fewer cells than that keeps its own."""
    steps = [max(1, STEPS[bins] * (length - 1) // 32) for length in x.shape[-2:]]
    kernel = [max(1, length - (bins - 1) * step) for length, step in zip(x.shape[-2:], steps, strict=True)]
    return F.avg_pool2d(x, kernel, steps)


class SumPooling(nn.Module):
    """Pyramid pooling without convolutions: the map plus its means over the whole, 2x2, 3x3 and 6x6 windows."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        levels = (resize_corners(pool_windows(x, bins), x.shape[-2:]) for bins in STEPS)
        return sum(levels, x + F.adaptive_avg_pool2d(x, 1))


class CascadeFusion(nn.Module):
    """Cascade feature fusion: the coarse map resized, 3x3 of dilation 2; the fine one projected; sum; ReLU."""

    def __init__(self, coarse: int, fine: int, cout: int) -> None:
        super().__init__()
        self.coarse = ConvNormAct(coarse, cout, 3, dilation=2, act=False)
        self.fine = ConvNormAct(fine, cout, 1, act=False)
        self.act = nn.ReLU()

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, h, w), (N, fine, H, W) -> (N, cout, H, W)."""
        out: Tensor = self.act(self.coarse(resize_corners(coarse, fine.shape[-2:])) + self.fine(fine))
        return out


def residual_stage(cin: int, width: int, blocks: int, dilation: int = 1) -> nn.Sequential:
    """``blocks`` bottlenecks that make ``4 * width`` channels."""
    first = ResidualBottleneck(cin, width, 1, dilation)
    return nn.Sequential(first, *(ResidualBottleneck(4 * width, width, 1, dilation) for _ in range(blocks - 1)))


@NETWORKS.register("icnet")
class ICNet(Network):
    """ICNet: 6.7 M parameters; a PSPNet of half the width on a quarter of the image, refined by a half and all of it.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). The graph is that of the authors' Caffe file
    (with its BatchNorm unmerged), which runs at 1025 x 2049 only: there this is the same, with every resize (corners
    kept) by target size elsewhere. The two branches of lower resolution share their first layers. Convolutions start
    from He's normal init by fan-in. Its input is BGR in 0..255 less the mean. Its auxiliary heads are supervision, each
    on the map that the next fusion resizes.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
    """

    paper = "Zhao, Qi, Shen, Shi, Jia, ECCV 2018, arXiv:1704.08545"
    # the branch of lowest resolution; the classifier reads the last fusion resized, whose map before the ReLU is half
    # as large
    roles: Roles = {
        "backbone": "stage5",
        "stages": ("stage2", "stage3", "stage4", "stage5"),
        "head_preact": "fusion8.act@input",
    }
    results = (
        Result("cityscapes", "val", 67.7, 30.3, "Titan X", (1024, 2048)),
        Result("cityscapes", "test", 69.5, source="repository"),  # trained on train + val
    )

    def __init__(self, num_classes: int, weights: str | Path | None = None) -> None:
        super().__init__(num_classes, Preprocess(BGR_MEAN, (1.0, 1.0, 1.0), scale=1.0, channels="BGR"))
        self.stem = nn.Sequential(
            ConvNormAct(3, 32, 3, 2), ConvNormAct(32, 32), ConvNormAct(32, 64), nn.MaxPool2d(3, 2, 1)
        )
        self.stage2 = residual_stage(64, 32, blocks=3)
        self.middle = ResidualBottleneck(128, 64, stride=2, stride_first=True)
        self.stage3 = residual_stage(256, 64, blocks=3)
        self.stage4 = residual_stage(256, 128, blocks=6, dilation=2)
        self.stage5 = residual_stage(512, 256, blocks=3, dilation=4)
        self.context = nn.Sequential(SumPooling(), ConvNormAct(1024, 256, 1))
        self.detail = nn.Sequential(ConvNormAct(3, 32, 3, 2), ConvNormAct(32, 32, 3, 2), ConvNormAct(32, 64, 3, 2))
        self.fusion16 = CascadeFusion(256, 256, 128)
        self.fusion8 = CascadeFusion(128, 64, 128)
        self.classifier = nn.Conv2d(128, num_classes, 1)
        self.feature_info = (
            FeatureInfo("stage2", 128, 8),
            FeatureInfo("middle", 256, 16),
            FeatureInfo("stage3", 256, 32),
            FeatureInfo("stage4", 512, 32),
            FeatureInfo("stage5", 1024, 32),
            FeatureInfo("context", 256, 32),
            FeatureInfo("detail", 64, 8),
            FeatureInfo("fusion16", 128, 16),
            FeatureInfo("fusion8", 128, 8),
            FeatureInfo("classifier", num_classes, 4),
        )
        kaiming_init(self)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.middle(self.stage2(self.stem(halved(x))))
        context = self.context(self.stage5(self.stage4(self.stage3(halved(middle)))))
        fused = self.fusion8(self.fusion16(context, middle), self.detail(x))
        fine = resize_corners(fused, [(length + 3) // 4 for length in x.shape[-2:]])
        return resize_corners(self.classifier(fine), x.shape[-2:])
