"""A teacher from anywhere: ``load_teacher(source)`` makes a network of a run, a library's file, a graph, an own module.

A further kind is one module with a ``load`` function, and a row of ``segkd.teachers.sources.KINDS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.errors import UserError

if TYPE_CHECKING:
    from segkd.models import Network

__all__ = ["load_teacher"]


def load_teacher(
    source: str | Path,
    *,
    num_classes: int | None = None,
    classes: Any = None,
    preprocess: Mapping[str, Any] | None = None,
    download: bool = False,
) -> Network:
    """A trained network in eval, without gradient, whose logits are those of the tool that it comes from.

    For a config: ``teacher=dict(type=load_teacher, source="smp:fpn/resnet18@w.pth", num_classes=11)``.

    Args:
        source: a folder or file that says what it is (a run, a student file in a run folder, an ONNX, TorchScript or
            torch.export file, a ``save_pretrained`` folder, a folder of ``segkd cache``), else ``KIND:NAME@FILE``:
            ``smp:fpn/resnet18@w.pth``,
            ``torchvision:lraspp_mobilenet_v3_large@w.pth``, ``timm:``, ``hf:``, ``mmseg:``, ``onnx:``,
            ``segkd:fast_scnn@w.pth``, ``cache:FOLDER``, ``my_module:MyNet@w.pth``.
        num_classes: how many classes it must have in the end; read off the file where that tells.
        classes: the data's classes among its own: a list of names; ``{"road": "street", "vehicle": ["car", "bus"]}``,
            in the data's order; or numbers of its outputs, ``[7, 8, [11, 12]]``. Several to one: their probabilities
            are added. An output that is not named is left out.
        preprocess: ``dict(mean=, std=, scale=1/255, channels="RGB")`` in the place of what the source says, as of
            ``segkd.models.Preprocess``.
        download: allow names on a hub; nothing is downloaded otherwise.

    Raises:
        UserError: a source that is not there, that does not fit, that lacks something, or another number of classes.
    """
    from segkd.teachers.classes import with_classes
    from segkd.teachers.sources import open_source, stated_preprocess

    stated = stated_preprocess(preprocess)
    expected = num_classes if classes is None else None
    network = open_source(source, num_classes=expected, preprocess=stated, download=download)
    network.eval().requires_grad_(False)
    if classes is not None and hasattr(network, "recall"):
        raise UserError(f"{source} holds answers, whose classes are as they were kept: give classes= when caching")
    if classes is not None:
        network = with_classes(network, classes).eval()
    given = dict(num_classes=num_classes, classes=classes, preprocess=preprocess, download=download)
    made_of = {"source": str(source), **{key: value for key, value in given.items() if value}}
    if num_classes is not None and network.num_classes != num_classes:
        raise UserError(
            f"{source} gives {network.num_classes} classes, not {num_classes}; say by classes= which of its outputs "
            "are the data's"
        )
    vars(network)["_made_of"] = ((), {"type": load_teacher, **made_of})  # what a config holds of it
    return network
