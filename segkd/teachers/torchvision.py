"""Teachers of torchvision: the library's own files of its segmentation models."""

from __future__ import annotations

from pathlib import Path

from segkd.errors import UserError
from segkd.models import Network, Preprocess
from segkd.models.statedict import read_state_dict
from segkd.models.torchvision import TorchvisionModel
from segkd.teachers.fitting import fit, needed_file, outputs_of

AUXILIARY = "aux_classifier."
HEAD = r"classifier\.(4|low_classifier|high_classifier)\.weight"


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """A segmentation model of the library, without its auxiliary head.

    Args:
        name: ``deeplabv3_resnet50``, ``lraspp_mobilenet_v3_large``, ...
        file: its state dict, with or without auxiliary head.
        num_classes: not used, the file tells.
        preprocess: by default ImageNet's mean and std, as all the library's weights.
        download: not used.
    """
    if name is None:
        raise UserError("say which model of torchvision that is, torchvision:NAME@FILE")
    path = needed_file(name, file, "torchvision")
    tensors = {key: value for key, value in read_state_dict(path).items() if not key.startswith(AUXILIARY)}
    count = outputs_of(tensors, HEAD, path, f"torchvision:{name}")
    return fit(TorchvisionModel(name, num_classes=count), tensors, path, f"torchvision:{name}", preprocess)
