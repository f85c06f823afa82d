"""Teachers with an encoder of timm: files of segkd's ``TimmModel``, as the library itself segments nothing."""

from __future__ import annotations

from pathlib import Path

from segkd.errors import UserError
from segkd.models import Network, Preprocess
from segkd.models.statedict import read_state_dict
from segkd.models.timm import TimmModel
from segkd.teachers.fitting import fit, needed_file, outputs_of


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """An encoder of timm under segkd's pyramid decoder.

    Args:
        name: of the encoder, as ``timm.list_models()`` has it.
        file: state dict of a ``TimmModel``; a file of the encoder alone has no classes to teach.
        num_classes: not used, the file tells.
        preprocess: by default the file's, else ImageNet's mean and std.
        download: not used.
    """
    if name is None:
        raise UserError("say which encoder of timm that is, timm:NAME@FILE")
    path = needed_file(name, file, "timm")
    tensors = read_state_dict(path)
    if not any(key.startswith("decoder.") for key in tensors):
        raise UserError(
            f"{path} holds no decoder: timm's own files classify images and cannot teach segmentation; train "
            f"dict(type=TimmModel, encoder={name!r}, ...) first"
        )
    count = outputs_of(tensors, r"classifier\.weight", path, f"timm:{name}")
    width = int(tensors["classifier.weight"].shape[1])
    network = TimmModel(name, num_classes=count, decoder_channels=width)
    return fit(network, tensors, path, f"timm:{name}", preprocess)
