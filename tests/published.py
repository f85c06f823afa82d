"""Published networks to compare with: shapes and MACs as counted on the authors' code, names in their files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segkd.models.published_backbones import BACKBONES

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "networks.json").read_text())
Shapes = Counter[tuple[int, ...]]


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """The network in eval, without memory for its weights."""
    with torch.device("meta"):
        return build().eval()


def shapes_of(network: nn.Module) -> Shapes:
    """How often each parameter shape occurs."""
    return Counter(tuple(p.shape) for p in network.parameters())


def published_shapes(name: str) -> Shapes:
    return Counter({tuple(shape): count for shape, count in GOLDEN[name]["param_shapes"]})


def gmacs(network: nn.Module, height: int, width: int) -> float:
    """GMAC of one image: convolutions and matrix products, by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() / 2e9


def difference(network: nn.Module, name: str) -> tuple[Shapes, Shapes]:
    """Parameter shapes that the network has beyond the published one, and those that it lacks."""
    own, theirs = shapes_of(network), published_shapes(name)
    return own - theirs, theirs - own


def espnet_names(p: int, q: int) -> list[str]:
    """Every tensor in the authors' file of ESPNet, as listed in 2018."""
    block = ["c1.conv", "d1.conv", "d2.conv", "d4.conv", "d8.conv", "d16.conv"]
    norm = ["weight", "bias", "running_mean", "running_var"]
    names = [
        "encoder.level1.conv.weight",
        "encoder.classifier.conv.weight",
        "level3_C.conv.weight",
        "conv.conv.weight",
    ]
    deep = [*(f"encoder.level2.{i}" for i in range(p)), *(f"encoder.level3.{i}" for i in range(q))]
    names += ["up_l3.0.weight", "up_l2.0.weight", "classifier.weight", *(f"br.{n}" for n in norm)]
    for stem in ("encoder.level2_0", "encoder.level3_0", *deep, "combine_l2_l3.1"):
        names += [f"{stem}.{c}.weight" for c in block]
    plain = ["encoder.level1", "encoder.b1", "encoder.b2", "encoder.b3", "encoder.level2_0", "encoder.level3_0", "conv"]
    nested = [*(f"{d}.bn" for d in deep), "combine_l2_l3.0", "combine_l2_l3.1.bn", "up_l2.1"]
    for stem in plain + nested:
        names += [f"{stem}.act.weight", *(f"{stem}.bn.{n}" for n in norm)]
    return names


def lite_names(depths: tuple[int, ...]) -> list[str]:
    """Every tensor of the published file in its order: stem, blocks counted through, head, classifier."""

    def layer(stem: str, conv: str, norm: str) -> list[str]:
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{stem}{conv}.weight", *(f"{stem}{norm}.{kind}" for kind in kinds)]

    names = layer("", "_conv_stem", "_bn0")
    for k in range(sum(depths)):
        stem = f"_blocks.{k}."
        names += layer(stem, "_expand_conv", "_bn0") if k >= depths[0] else []
        names += layer(stem, "_depthwise_conv", "_bn1") + layer(stem, "_project_conv", "_bn2")
    return [*names, *layer("", "_conv_head", "_bn1"), "_fc.weight", "_fc.bias"]


def random_backbone(name: str, path: Path) -> dict[str, torch.Tensor]:
    """Random tensors in timm's order and shapes under the published names, and the same under timm's names."""
    entry = BACKBONES[name]
    state = timm.create_model(entry.network).state_dict()
    theirs = lite_names(tuple(entry.depths))
    assert len(theirs) == len(state) == {0: 296, 1: 386, 2: 386}[int(entry.network[-1])]
    tensors = {k: torch.rand(v.shape).to(v.dtype) for k, v in state.items()}
    torch.save(dict(zip(theirs, tensors.values(), strict=True)), path)
    return tensors
