"""Every network that can be built by name alone, and wrapped ones worth naming: what ``segkd models`` lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from segkd.errors import UserError, nearest
from segkd.models.info import NETWORKS, Result

if TYPE_CHECKING:
    from segkd.models.base import Network

#: names that need arguments; the entries below give some
WRAPPERS = ("smp", "timm", "torchvision", "light_fpn")
TEACHERS = ("fasterseg_teacher", "pspnet")


class Entry(NamedTuple):
    """A network as it is listed: registered name, arguments beside ``num_classes``, and its part.

    ``kind``: "student", "teacher", or "backbone" for a light backbone under the decoder of ``light_fpn``. ``paper`` and
    ``results``, where the class of a wrapper cannot know them, are those of what is wrapped.
    """

    name: str
    options: Mapping[str, Any]
    kind: str = "student"
    paper: str = ""
    results: Sequence[Result] = ()

    def build(self, num_classes: int) -> Network:
        return NETWORKS.create(self.name, num_classes=num_classes, **self.options)

    def on_meta(self, num_classes: int) -> Network:
        """The network in eval on the meta device: no memory for weights, and forward passes without arithmetic."""
        import torch

        if self.name == "smp":  # some of its encoders compute with tensors while they are built
            network = self.build(num_classes).eval().to("meta")
        else:
            with torch.device("meta"):
                network = self.build(num_classes).eval()
        network.paper = self.paper or network.paper
        network.results = self.results or network.results
        return network


DEEPLABV3 = "Chen, Papandreou, Schroff, Adam, 2017, arXiv:1706.05587"
DEEPLABV3PLUS = "Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, arXiv:1802.02611"
SEGFORMER = "Xie, Wang, Yu, Anandkumar, Alvarez, Luo, NeurIPS 2021, arXiv:2105.15203"
UPERNET = "Xiao, Liu, Zhou, Jiang, Sun, ECCV 2018, arXiv:1807.10221"
DPT = "Ranftl, Bochkovskiy, Koltun, ICCV 2021, arXiv:2103.13413"
MOBILENETV3 = "Howard et al., ICCV 2019, arXiv:1905.02244"


def _mmseg(miou: float, data: str = "cityscapes", note: str = "") -> tuple[Result, ...]:
    """A result of mmsegmentation, single scale: what the field trains these with; ``note``: what differs there."""
    return (Result(data, "val", miou, source="mmsegmentation" + (f", {note}" if note else "")),)


def _cirkd(cityscapes: float, camvid: float) -> tuple[Result, ...]:
    """Results of the students under labels alone in Yang et al. 2022, the baselines of most distillation papers."""
    source = "CIRKD, arXiv:2204.06986"
    return Result("cityscapes", "val", cityscapes, source=source), Result("camvid", "test", camvid, source=source)


def _smp(
    arch: str, encoder: str, paper: str, results: Sequence[Result] = (), kind: str = "teacher", **options: Any
) -> Entry:
    return Entry("smp", {"arch": arch, "encoder": encoder, **options}, kind, paper, results)


def _torchvision(arch: str, paper: str, results: Sequence[Result] = (), kind: str = "teacher") -> Entry:
    return Entry("torchvision", {"arch": arch}, kind, paper, results)


#: paper -> the backbones of it under the decoder of ``light_fpn``
BACKBONES = {
    "He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385": ("resnet18", "resnet34"),
    "Ma, Zhang, Zheng, Sun, ECCV 2018, arXiv:1807.11164": tuple(
        f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")
    ),
    "Howard et al., 2017, arXiv:1704.04861": ("mobilenetv1_100",),
    "Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, arXiv:1801.04381": ("mobilenetv2_100",),
    MOBILENETV3: ("mobilenetv3_small_100", "mobilenetv3_large_100"),
    "Qin et al., ECCV 2024, arXiv:2404.10518": ("mobilenetv4_conv_small",),
    "Tan, Le, ICML 2019, arXiv:1905.11946": (
        "efficientnet_b0",
        "efficientnet_lite0",
        *(f"tf_efficientnet_lite{k}" for k in range(3)),
    ),
    "Yu et al., CVPR 2022, arXiv:2111.11418": tuple(
        f"poolformer_{size}" for size in ("s12", "s24", "s36", "m36", "m48")
    ),
    "Li et al., NeurIPS 2022, arXiv:2206.01191": tuple(f"efficientformer_{size}" for size in ("l1", "l3", "l7")),
    "Li et al., ICCV 2023, arXiv:2212.08059": tuple(f"efficientformerv2_{size}" for size in ("s0", "s1", "s2", "l")),
    "Liu et al., CVPR 2022, arXiv:2201.03545": ("convnext_atto", "convnext_tiny"),
}
OS8 = "with output stride 8"
WRAPPED = {
    "pspnet_r18": Entry("pspnet", {"encoder": "resnet18", "head": 128}, "student", results=_cirkd(72.55, 66.73)),
    "pspnet_r50": Entry("pspnet", {"encoder": "resnet50"}, "teacher"),
    "deeplabv3_r18": _smp(
        "DeepLabV3",
        "resnet18",
        DEEPLABV3,
        _cirkd(74.21, 66.92),
        "student",
        encoder_output_stride=8,
        decoder_channels=128,
        decoder_atrous_rates=(12, 24, 36),
    ),
    "deeplabv3plus_r18": _smp("DeepLabV3Plus", "resnet18", DEEPLABV3PLUS, _mmseg(76.89, note=OS8)),
    "deeplabv3plus_r50": _smp("DeepLabV3Plus", "resnet50", DEEPLABV3PLUS, _mmseg(80.09, note=OS8)),
    "deeplabv3plus_r101": _smp("DeepLabV3Plus", "resnet101", DEEPLABV3PLUS, _mmseg(80.97, note=OS8)),
    **{
        f"segformer_b{k}": _smp("Segformer", f"mit_b{k}", SEGFORMER, _mmseg(miou))
        for k, miou in enumerate((76.54, 78.56, 81.08, 81.94, 81.89, 82.25))
    },
    "upernet_convnext_base": _smp("UPerNet", "tu-convnext_base", UPERNET, _mmseg(48.71, "ade20k")),
    "dpt_vit_base": _smp(
        "DPT", "tu-vit_base_patch16_224.augreg_in21k", DPT, _mmseg(46.97, "ade20k"), dynamic_img_size=True
    ),
    "deeplabv3_r50": _torchvision("deeplabv3_resnet50", DEEPLABV3, _mmseg(79.32)),
    "deeplabv3_r101": _torchvision("deeplabv3_resnet101", DEEPLABV3, _mmseg(80.20)),
    "deeplabv3_mobilenetv3": _torchvision("deeplabv3_mobilenet_v3_large", DEEPLABV3),
    "lraspp_mobilenetv3": _torchvision("lraspp_mobilenet_v3_large", MOBILENETV3, _mmseg(69.54), "student"),
    **{
        f"light_fpn_{name}": Entry("light_fpn", {"backbone": name}, "backbone", paper)
        for paper, names in BACKBONES.items()
        for name in names
    },
}


def catalogue() -> dict[str, Entry]:
    """label -> entry, sorted: registered networks under their own names, wrapped ones under the labels above."""
    own = {
        name: Entry(name, {}, "teacher" if name in TEACHERS else "student")
        for name in NETWORKS.names()
        if name not in WRAPPERS
    }
    return dict(sorted({**own, **WRAPPED}.items()))


#: what each network costs, its taps and what was published; written by tools/networks.py
TABLE = Path(__file__).with_name("catalogue.json")


def counted(num_classes: int) -> dict[str, dict[str, Any]]:
    """label -> row of the shipped table, which was counted at one number of classes; empty for any other."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return {row["name"]: row for row in table["networks"]} if num_classes == table["num_classes"] else {}


def entry(label: str) -> Entry:
    """The listed network of that label; a UserError that names the nearest if there is none."""
    known = catalogue()
    if label in WRAPPERS:
        raise UserError(f"{label!r} wraps a library and needs arguments; {nearest('', _labels(label))}")
    if label not in known:
        raise UserError(f"unknown network {label!r}; {nearest(label, known)}")
    return known[label]


def _labels(name: str) -> list[str]:
    return [label for label, e in catalogue().items() if e.name == name]
