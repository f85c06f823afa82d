"""Checkpoints of mmsegmentation: `mmseg:NAME@FILE`, read by declared tables of names.

Each network of ``NETWORKS`` computes what mmsegmentation's own computes (`encode_decode`: logits at the image's size)
to 1e-4, at odd sizes too, as checked against mmsegmentation 1.4.2. Its DDRNet and PIDNet themselves fail unless 8
divides H and W; there these compare, and elsewhere they resize by target size. Where a network of `segkd.models`
computes otherwise, `mmseg_networks`, `mmseg_dilated` and `mmseg_icnet` hold what is exchanged or built instead. Not
read: dilated networks of another output stride, multi-grid or stem (`d16`, `d32`, `mg124`, `r50b`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from segkd.errors import UserError, nearest
from segkd.models.base import Network, Preprocess, apply_weights
from segkd.models.ddrnet import DDRNet23, DDRNet23Slim
from segkd.models.pidnet import PIDNetL, PIDNetM, PIDNetS
from segkd.models.statedict import read_state_dict
from segkd.models.stdc import STDC1, STDC2
from segkd.teachers import mmseg_names as names
from segkd.teachers import mmseg_networks as networks
from segkd.teachers.mmseg_dilated import DilatedNetwork
from segkd.teachers.mmseg_icnet import WideICNet

#: mean and standard deviation of red, green and blue in 0..255 that all but one of its configs have
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CGNET_MEAN = (72.39239876, 82.90891754, 73.15835921)
#: tensor whose first dimension is the number of classes
CLASSIFIER = "decode_head.conv_seg.weight"
#: tensors that only training uses; the preprocessing's constants
TRAINING = (
    r"^auxiliary_head\.|^data_preprocessor\."
    r"|^decode_head\.(loss_decode|aux_head|aux_cls_seg|p_head|p_cls_seg|d_head|d_cls_seg)\."
)
Tensors = dict[str, Tensor]


class Source(NamedTuple):
    """How a network of mmsegmentation is read.

    Attributes:
        build: number of classes -> the network.
        names: its table of names.
        parameters: of the network without its classifier and what only training uses; by it a file is recognised.
        mean, std: of RGB in 0..255.
        reshape: applied to the tensors after their names have changed.
    """

    build: Callable[[int], Network]
    names: names.Names
    parameters: int
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD
    reshape: Callable[[Tensors], Tensors] = dict

    def our_name(self, name: str) -> str:
        """The name here of a tensor in mmsegmentation's file."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        return name


def segformer_tensors(tensors: Tensors) -> Tensors:
    """SegFormer's tensors as smp keeps them.

    The projection of query, key and value is two layers there, the feed-forward's 1x1 convolutions are linear layers,
    and the decoder concatenates its maps coarsest first.
    """
    out: Tensors = {}
    for name, value in tensors.items():
        if ".attn.attn.in_proj_" in name:
            width = len(value) // 3
            out[name.replace("attn.attn.in_proj_", "attn.q.")] = value[:width]
            out[name.replace("attn.attn.in_proj_", "attn.kv.")] = value[width:]
        elif ".mlp.fc" in name and value.dim() == 4:
            out[name] = value.flatten(1)
        elif name == "decoder.fuse_stage.0.weight":
            out[name] = torch.cat(value.chunk(4, dim=1)[::-1], dim=1)
        else:
            out[name] = value
    return out


def icnet_tensors(tensors: Tensors) -> Tensors:
    """ICNet's tensors with the map itself before its pooled levels, which mmsegmentation concatenates last."""
    fuse, level = "context.0.project.0.weight", "context.0.levels.0.1.0.weight"
    if fuse not in tensors or level not in tensors:
        return tensors
    return {**tensors, fuse: tensors[fuse].roll(tensors[level].shape[1], dims=1)}


#: architecture -> parameters with ResNet-18, -50 and -101
DILATED = {
    "pspnet": (12638816, 46601056, 65593184),
    "deeplabv3": (13835104, 65738592, 84730720),
    "deeplabv3plus": (12317692, 41215440, 60207568),
}
#: NAME -> how it is read
NETWORKS: dict[str, Source] = {
    **{
        f"segformer_b{size}": Source(
            partial(networks.SegFormer, size), names.SEGFORMER, count, reshape=segformer_tensors
        )
        for size, count in enumerate((3715168, 13678272, 24723136, 44598976, 61369536, 81969856))
    },
    **{
        f"{arch}_r{depth}{suffix}": Source(
            partial(DilatedNetwork, arch, f"resnet{depth}", corners=bool(suffix)), names.DILATED, count
        )
        for suffix in ("", "_769")
        for arch, counts in DILATED.items()
        for depth, count in zip((18, 50, 101), counts, strict=True)
    },
    **{
        f"upernet_convnext_{size}": Source(partial(networks.upernet_convnext, size), names.UPERNET_CONVNEXT, count)
        for size, count in (("tiny", 59241888), ("small", 80876448), ("base", 120807296))
    },
    "fast_scnn": Source(networks.fast_scnn, names.FAST_SCNN, 1397488),
    "bisenetv1_r18": Source(networks.bisenetv1, names.BISENETV1, 13270656),
    "bisenetv2": Source(networks.bisenetv2, names.BISENETV2, 3339408),
    "stdc1": Source(partial(networks.stdc, STDC1), names.STDC, 8270240),
    "stdc2": Source(partial(networks.stdc, STDC2), names.STDC, 12300704),
    "ddrnet23_slim": Source(DDRNet23Slim, names.DDRNET, 5694688),
    "ddrnet23": Source(DDRNet23, names.DDRNET, 20146368),
    "pidnet_s": Source(PIDNetS, names.PIDNET, 7623200),
    "pidnet_m": Source(PIDNetM, names.PIDNET, 28535936),
    "pidnet_l": Source(PIDNetL, names.PIDNET, 36934560),
    **{
        f"icnet_r{depth}": Source(partial(WideICNet, f"resnet{depth}"), names.ICNET, count, reshape=icnet_tensors)
        for depth, count in ((18, 24871616), (50, 47525056), (101, 66517184))
    },
    "erfnet": Source(networks.ERFNetWithHead, names.ERFNET, 2081644),
    "cgnet": Source(networks.cgnet, names.CGNET, 491442, CGNET_MEAN, (1.0, 1.0, 1.0)),
}


def load(
    name: str | None,
    file: Path | None,
    *,
    num_classes: int | None,
    preprocess: Preprocess | None,
    download: bool,
) -> Network:
    """The network of a mmsegmentation checkpoint in eval, with its weights and its preprocessing.

    Args:
        name: key of ``NETWORKS``; None to find it from the tensors.
        file: local checkpoint (``state_dict`` and what else mmengine saves, tensors and plain values alone).
        num_classes: checked against the file's; None takes that.
        preprocess: instead of mmsegmentation's own.
        download: nothing is ever downloaded for this kind.
    """
    if name is not None and name not in NETWORKS:
        raise UserError(f"mmseg has no network {name!r} here; {nearest(name, NETWORKS)}")
    if file is None:
        raise UserError(f"mmseg:{name or 'NAME'} needs its checkpoint: mmseg:{name or 'NAME'}@FILE")
    tensors = needed(read_state_dict(file), file)
    name = name or recognised(tensors, file)
    classes = len(tensors[CLASSIFIER])
    if num_classes not in (None, classes):
        raise UserError(f"{file} has {classes} classes, not num_classes={num_classes}")
    if classes < 2:
        raise UserError(f"{file} has a single output, a binary mask by a threshold; two classes or more are needed")
    source = NETWORKS[name]
    network = source.build(classes)
    network.preprocess = preprocess or Preprocess(source.mean, source.std, scale=1.0)
    apply_weights(network, completed(network, source, tensors), f"{file}, read as mmseg:{name},")
    return network.eval()


def needed(tensors: Mapping[str, Tensor], file: Path) -> Tensors:
    """The tensors without what only training uses; a file without mmsegmentation's classifier is a UserError."""
    kept = {name: value for name, value in tensors.items() if not re.match(TRAINING, name)}
    if CLASSIFIER not in kept:
        raise UserError(f"{file} is no checkpoint of a mmsegmentation segmentor: it lacks {CLASSIFIER!r}")
    return kept


def counted(tensors: Mapping[str, Tensor]) -> int:
    """Number of parameters, without the classifier, in the tensors of mmsegmentation's network."""
    statistics = (".running_mean", ".running_var", ".num_batches_tracked")
    return sum(
        value.numel()
        for name, value in tensors.items()
        if not name.startswith("decode_head.conv_seg.") and not name.endswith(statistics)
    )


def recognised(tensors: Mapping[str, Tensor], file: Path) -> str:
    """The key of ``NETWORKS`` whose number of parameters the file has.

    A UserError names the nearest if there is none, and the two that differ only in how they resize (``_769``).
    """
    count = counted(tensors)
    fitting = [name for name, source in NETWORKS.items() if source.parameters == count]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"{file} has the tensors of both {' and '.join(fitting)}, whose resizes differ; say which it is, "
            f"mmseg:{fitting[0]}@FILE (trained on crops of 769x769: {fitting[-1]})"
        )

    def unlike(name: str) -> tuple[int, int]:
        source = NETWORKS[name]
        left = sum(source.our_name(key) == key or source.our_name(key).startswith("backbone.") for key in tensors)
        return left, abs(source.parameters - count)

    closest = sorted(NETWORKS, key=unlike)[:2]
    raise UserError(
        f"{file} fits none of mmseg's networks here ({count:,} parameters without the classifier); nearest: "
        + " and ".join(f"{name} ({NETWORKS[name].parameters:,})" for name in closest)
    )


def completed(network: Network, source: Source, tensors: Mapping[str, Tensor]) -> Tensors:
    """The file's tensors under our names, with what it cannot have.

    That is our preprocessing, BatchNorm's step counters where they were not saved, and, as zeros, the biases of
    convolutions before a BatchNorm that mmsegmentation leaves out.
    """
    ours = source.reshape({source.our_name(name): value for name, value in tensors.items()})
    for name, value in network.state_dict().items():
        if name.startswith("preprocess.") or name.endswith(".num_batches_tracked"):
            ours.setdefault(name, value)
        elif re.search(r"^(stem\.\d|fusion\.(coarse|detail))\.0\.bias$", name):
            ours.setdefault(name, torch.zeros_like(value))
    return ours
