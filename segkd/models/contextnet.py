"""ContextNet: Exploring Context and Detail in Real-time (Poudel, Bonde, Liwicki, Zach, BMVC 2018, arXiv:1805.04554)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.base import NETWORKS, FeatureInfo, Network, Result, Roles, kaiming_init, load_weights, resize_to
from segkd.models.blocks import ConvNormAct, DepthwiseSeparable, InvertedResidual
from segkd.models.fusion import FeatureFusion

#: expansion, channels, blocks and stride of the first, for each stage of the context branch
STAGES = ((1, 32, 1, 1), (6, 32, 1, 1), (6, 48, 3, 2), (6, 64, 3, 2), (6, 96, 2, 1), (6, 128, 2, 1))
VARIANTS = ("paper", "port")


class Context(nn.Module):
    """Context branch: the image at a quarter of its size, then twelve inverted residuals down to stride 32.

    Args:
        last: a 3x3 convolution at the end.
    """

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 32, 3, stride=2)
        cin, stages = 32, []
        for expand, width, blocks, stride in STAGES:
            first = InvertedResidual(cin, width, stride, expand)
            stages.append(nn.Sequential(first, *(InvertedResidual(width, width, 1, expand) for _ in range(blocks - 1))))
            cin = width
        self.stages = nn.ModuleList(stages)
        self.last = ConvNormAct(cin, cin, 3) if last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 128, H/32, W/32)."""
        height, width = x.shape[-2:]
        x = self.stem(resize_to(x, (-(-height // 4), -(-width // 4))))
        for stage in self.stages:
            x = stage(x)
        out: Tensor = self.last(x)
        return out


@NETWORKS.register("contextnet")
class ContextNet(Network):
    """ContextNet (cn14): a shallow branch on the image, a deep one on a quarter of it; logits made at stride 8.

    Input (N, 3, H, W) for any H, W >= 32, logits (N, num_classes, H, W). The stems pad by 1 and every resize is
    bilinear by target size.

    "paper" has 0.99 M parameters at 19 classes, 0.15 M of them in the 3x3 convolution that ends its context branch; the
    paper states 0.85 M. Its branches are as four independent implementations read the paper's table.

    Args:
        num_classes: number of classes.
        weights: local file of this network's state dict.
        variant: "paper": no ReLU between depthwise and pointwise convolutions, a 3x3 convolution that ends the context
            branch, a depthwise convolution of dilation 4 in the fusion, a 1x1 as classifier. "port": the widespread
            form of Efficient-Segmentation-Networks, which has the ReLU, neither of the two, and Fast-SCNN's head.
        dropout: probability before the classifier.
    """

    paper = "Poudel, Bonde, Liwicki, Zach, BMVC 2018, arXiv:1805.04554"
    roles: Roles = {"backbone": "context", "stages": ("context.stages.1", "context.stages.3", "context")}
    results = (
        Result("cityscapes", "val", 65.9),
        Result("cityscapes", "test", 66.1, 18.3, "Titan X", (1024, 2048)),
    )

    def __init__(
        self, num_classes: int, weights: str | Path | None = None, variant: str = "paper", dropout: float = 0.1
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f"ContextNet has no variant {variant!r}; {nearest(variant, VARIANTS)}")
        super().__init__(num_classes)
        port = variant == "port"
        self.detail = nn.Sequential(
            ConvNormAct(3, 32, 3, stride=2),
            DepthwiseSeparable(32, 64, 2, act_between=port),
            DepthwiseSeparable(64, 128, 2, act_between=port),
            DepthwiseSeparable(128, 128, 1, act_between=port),
        )
        self.context = Context(last=not port)
        self.fusion = FeatureFusion(detail=128, coarse=128, cout=128, dilation=1 if port else 4)
        self.head = nn.Sequential(*(DepthwiseSeparable(128, 128, act_between=True) for _ in range(2 if port else 0)))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(128, num_classes, 1)
        self.feature_info = describe(num_classes, head=port)
        kaiming_init(self)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, x: Tensor) -> Tensor:
        fused = self.fusion(self.detail(x), self.context(x))
        return resize_to(self.classifier(self.dropout(self.head(fused))), x.shape[-2:])


def describe(num_classes: int, head: bool) -> tuple[FeatureInfo, ...]:
    """Taps of a ContextNet."""
    return (
        FeatureInfo("detail", 128, 8),
        FeatureInfo("context.stages.2", 48, 16),
        FeatureInfo("context.stages.3", 64, 32),
        FeatureInfo("context.stages.4", 96, 32),
        FeatureInfo("context", 128, 32),
        FeatureInfo("fusion", 128, 8),
        *((FeatureInfo("head", 128, 8),) if head else ()),
        FeatureInfo("classifier", num_classes, 8),
    )
