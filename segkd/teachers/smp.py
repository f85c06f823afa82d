"""Teachers of segmentation-models-pytorch: state dicts, folders of ``save_pretrained``, names of its hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd.errors import UserError, first_line, nearest
from segkd.models import Network, Preprocess
from segkd.models.smp import SmpModel, architectures
from segkd.models.statedict import read_state_dict
from segkd.teachers.fitting import fit, needed_file, outputs_of
from segkd.teachers.sources import HUB, library_config

HEAD = r"segmentation_head\..*\bweight"
#: keys of a folder's config that are no options of the architecture
APART = ("_model_class", "encoder_name", "encoder_weights", "classes", "in_channels", "activation", "aux_params")
#: encoders whose weights were made with ImageNet's mean and std: torchvision's families and those that took these over
IMAGENET = ("resnet", "resnext", "vgg", "densenet", "mobilenet_v2", "mit_", "se_resne", "senet", "efficientnet-")
IMAGENET_WEIGHTS = ("imagenet", "ssl", "swsl", "instagram")
TENSORS = ("model.safetensors", "pytorch_model.bin")


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """A model of the library, with all its outputs before any activation, without its head for whole images.

    Args:
        name: ``arch/encoder`` of a state dict, built with the library's default options, or ``smp-hub/...``.
        file: state dict, or a folder of ``save_pretrained``, which says all options itself.
        num_classes: not used, the file tells.
        preprocess: by default that of the encoder's weights which the folder names, else ImageNet's mean and std.
        download: allow ``smp-hub/...``, and what the hub says of preprocessing.
    """
    if name is not None and name.startswith(HUB):
        return _of_folder(_fetched(name, download), preprocess, download)
    if file is not None and file.is_dir():
        return _of_folder(file, preprocess, download)
    arch, _, encoder = (name or "").partition("/")
    if not encoder:
        raise UserError(
            f"say which model of smp that is, smp:ARCH/ENCODER@FILE, such as smp:fpn/resnet18@w.pth; got {name!r}"
        )
    path = needed_file(name, file, "smp")
    tensors = {k: v for k, v in read_state_dict(path).items() if not k.startswith("classification_head.")}
    kind = f"smp:{arch.lower()}/{encoder}"
    count = outputs_of(tensors, HEAD, path, kind)
    options: dict[str, Any] = {}
    if arch.lower() == "segformer":  # its width is the library's in the library's files, the paper's in ours
        options["decoder_segmentation_channels"] = _width(tensors)
    return fit(SmpModel(arch, encoder, num_classes=count, **options), tensors, path, kind, preprocess)


def _width(tensors: dict[str, Any]) -> int:
    return int(tensors["segmentation_head.0.weight"].shape[1])


def _fetched(name: str, download: bool) -> Path:
    """The folder of a model on the hub, downloaded."""
    if not download:
        raise UserError(f"{name} is on a hub and nothing is downloaded unasked: give download=True, or a local folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:
        raise UserError(f"cannot fetch {name} ({type(error).__name__}: {first_line(error)})") from error


def _of_folder(folder: Path, preprocess: Preprocess | None, download: bool) -> Network:
    config = library_config(folder)
    arch, encoder, count = (
        str(config.get("_model_class", "")).lower(),
        config.get("encoder_name"),
        config.get("classes"),
    )
    if arch not in architectures():
        raise UserError(
            f"smp has no architecture {config.get('_model_class')!r} ({folder}); {nearest(arch, architectures())}"
        )
    if not isinstance(encoder, str) or not isinstance(count, int):
        raise UserError(f"{folder} holds no model of smp: its config.json names no encoder, or no number of classes")
    if config.get("in_channels", 3) != 3:
        raise UserError(f"{folder} takes images of {config['in_channels']} channels; a teacher sees RGB images")
    path = next((folder / name for name in TENSORS if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder} holds no weights: none of {', '.join(TENSORS)}")
    options = {key: _tuples(value) for key, value in config.items() if key not in APART}
    network = SmpModel(arch, encoder, num_classes=count, **options)
    network.preprocess = preprocess or _of_weights(encoder, config.get("encoder_weights"), download)
    tensors = {k: v for k, v in read_state_dict(path).items() if not k.startswith("classification_head.")}
    return fit(network, tensors, path)


def _of_weights(encoder: str, weights: Any, download: bool) -> Preprocess:
    """The preprocessing with which the encoder's weights were made that a model began with; ImageNet's without any.

    For timm's it is in that library. For the others the library has it on its hub: it is read from what was downloaded
    before, or now if that is allowed, and known here for the families of ``IMAGENET``.
    """
    import segmentation_models_pytorch as smp
    import timm

    if weights is None:
        return Preprocess()
    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder[3:])
        return Preprocess() if config is None else Preprocess(config.mean, config.std)
    settings = smp.encoders.encoders[encoder]["pretrained_settings"].get(weights)
    said = _from_hub(settings, download) if settings else None
    if said is not None:
        scale = 1 / 255 if max(said.get("input_range", [0, 1])) == 1 else 1.0
        return Preprocess(said["mean"], said["std"], scale, said.get("input_space", "RGB"))
    if encoder.startswith(IMAGENET) and weights in IMAGENET_WEIGHTS:
        return Preprocess()
    raise UserError(
        f"the preprocessing of {encoder}'s {weights!r} weights is not on this machine: give preprocess=dict(mean=..., "
        "std=..., scale=1/255, channels='RGB'), or download=True"
    )


def _from_hub(settings: Mapping[str, str], download: bool) -> dict[str, Any] | None:
    """What the hub says of an encoder's weights; None if that is not on this machine and nothing may be downloaded."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo, revision = settings["repo_id"], settings["revision"]
    try:
        file = hf_hub_download(repo, "config.json", revision=revision, local_files_only=not download)
    except LocalEntryNotFoundError:
        return None
    return dict(json.loads(Path(file).read_text(encoding="utf-8")))


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that the library's arguments are."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
