"""ResNet-18 and -34 (He et al., CVPR 2016) as the trunk of a segmentation network, with torchvision's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models.backbones import fitted, given_file, only_classifies
from segkd.models.blocks import ConvNormAct, ResidualBasic
from segkd.models.wrapping import fetch_error

#: blocks of each stage
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
#: torchvision's names -> those of ``ResNetTrunk``, applied in this order
KEY_MAP = (
    (r"^conv1\.", "stem.0.0."),
    (r"^bn1\.", "stem.0.1."),
    (r"\.conv([12])\.", lambda found: f".body.{int(found[1]) - 1}.0."),
    (r"\.bn([12])\.", lambda found: f".body.{int(found[1]) - 1}.1."),
    (r"\.downsample\.", ".shortcut."),
)


class Residual(ResidualBasic):
    """ResNet's basic block with a choice of the activation between its two convolutions; ReLU after the sum."""

    def __init__(self, cin: int, width: int, stride: int = 1, final_act: bool = True, act: str = "relu") -> None:
        super().__init__(cin, width, stride, final_act=final_act)
        if act != "relu":
            self.body[0] = ConvNormAct(cin, width, 3, stride, act=act)


class ResNetTrunk(nn.Module):
    """Stem (7x7 and max pooling, stride 4) and four stages of basic blocks; (N, 3, H, W) -> their four maps.

    Args:
        depths: blocks of each stage (``DEPTHS``).
        strides: of each stage; (2, 2, 2, 2) makes strides 8 to 64, where (1, 2, 2, 2) makes the usual 4 to 32.
        act: activation inside the blocks and in the stem; ReLU follows the sums in any case.
        presum: the four maps are the sums before their ReLU.
    """

    def __init__(
        self,
        depths: Sequence[int],
        strides: Sequence[int] = (1, 2, 2, 2),
        act: str = "relu",
        presum: bool = False,
    ) -> None:
        super().__init__()
        self.presum = presum
        self.stem = nn.Sequential(ConvNormAct(3, 64, 7, 2, act=act), nn.MaxPool2d(3, 2, 1))
        stages = []
        for cin, width, depth, stride in zip((64, *WIDTHS), WIDTHS, depths, strides, strict=False):
            plan = [(width, 1, True)] * depth  # channels in, stride, ReLU after the sum
            plan[0] = (cin, stride, True)
            plan[-1] = (*plan[-1][:2], not presum)
            stages.append(nn.Sequential(*(Residual(a, width, s, final, act) for a, s, final in plan)))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rectify = F.relu if self.presum else nn.Identity()
        first = self.layer1(self.stem(x))
        second = self.layer2(rectify(first))
        third = self.layer3(rectify(second))
        return first, second, third, self.layer4(rectify(third))


def imagenet_weights(arch: str, source: bool | str | Path = True) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of ``arch`` without the classifier, under torchvision's names.

    ``source``: True downloads them; else a file of that network, which must fit strictly but for its classifier.
    """
    import torchvision  # inside: it takes a second

    file = given_file(source)
    if file is not None:
        with torch.device("meta"):
            own = torchvision.models.get_model(arch).state_dict()
        return fitted({key: value for key, value in own.items() if not only_classifies(key)}, file, arch)
    try:
        weights = torchvision.models.get_model_weights(arch)["IMAGENET1K_V1"]
        tensors = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        raise fetch_error(f"torchvision's ImageNet weights of {arch}", error) from error
    return {key: value for key, value in tensors.items() if not key.startswith("fc.")}


def our_key(key: str) -> str:
    """The name in a ``ResNetTrunk`` of one of torchvision's tensors."""
    for pattern, name in KEY_MAP:
        key = re.sub(pattern, name, key)
    return key


def load_trunk(trunk: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy torchvision's tensors into the trunk; what torchvision's network lacks stays as it is.

    That is the projection beside the first stage where this one has stride 2. A tensor without its place is an error.
    """
    trunk.load_state_dict({**trunk.state_dict(), **{our_key(key): value for key, value in tensors.items()}})
