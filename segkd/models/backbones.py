"""A local file of a backbone alone (``pretrained="FILE"``): its classifier left aside, the rest fitted strictly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.base import Preprocess
from segkd.models.statedict import read_state_dict

#: first parts of the names that timm, torchvision, smp and transformers give to the layers that only classify images
CLASSIFIERS = ("fc", "classifier", "head", "heads", "head_dist", "last_linear", "_fc")
#: BatchNorm's step counter; files before 2018 have none, and 0 is right where momentum is fixed
COUNTER = "num_batches_tracked"


class BackboneFile(NamedTuple):
    """What a file says of a backbone.

    Attributes:
        path: of the file.
        tensors: by their names in the library's classification network.
        network: the library's name of that network; "" if the file does not say.
        preprocess: what these weights were trained with; None if the file does not say.
    """

    path: str
    tensors: Mapping[str, Tensor]
    network: str = ""
    preprocess: Preprocess | None = None


def save_backbone(file: BackboneFile, out: Path) -> None:
    """Write a backbone so that ``read_backbone``, and timm by ``checkpoint_path``, open it."""
    content: dict[str, Any] = {"state_dict": dict(file.tensors), "network": file.network}
    if file.preprocess is not None:
        content["preprocess"] = file.preprocess.state_dict()
    with out.open("wb") as stream:
        torch.save(content, stream)


def read_backbone(path: str | Path) -> BackboneFile:
    """A file's tensors and, where ``save_backbone`` wrote it, whose they are and their preprocessing."""
    tensors = read_state_dict(path)
    content = {} if Path(path).suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    network, constants = content.get("network", ""), content.get("preprocess")
    preprocess = None
    if isinstance(constants, Mapping):
        preprocess = Preprocess()
        preprocess.load_state_dict(dict(constants))
    return BackboneFile(str(path), tensors, network if isinstance(network, str) else "", preprocess)


def given_file(pretrained: bool | str | Path | None) -> BackboneFile | None:
    """The file that an argument ``pretrained`` names; None for True (download), False and None."""
    return None if pretrained is None or isinstance(pretrained, bool) else read_backbone(pretrained)


def load_backbone(body: nn.Module, file: BackboneFile, name: str, aside: Collection[str] = ()) -> None:
    """Copy a file into ``body``, the library's backbone ``name``, if it fits (``fitted``); else nothing changes."""
    own = body.state_dict()
    body.load_state_dict({**own, **fitted(own, file, name, aside)})


def fitted(own: Mapping[str, Tensor], file: BackboneFile, name: str, aside: Collection[str] = ()) -> dict[str, Tensor]:
    """The file's tensors by the names of ``own``, the state dict of the library's backbone ``name``, strictly.

    Every tensor of ``own`` must be in the file with its shape (``COUNTER`` may lack), and every tensor of the file in
    ``own``, in a classifier (``CLASSIFIERS``), or among ``aside``, names of layers that this backbone leaves out.

    Raises:
        UserError: a file of another network, or what it lacks or has too much, with the nearest names.
    """
    if file.network and file.network != name.split(".")[0]:
        raise UserError(
            f"{file.path} holds {file.network}, not {name}: equal names and shapes are not enough, as padding and "
            "constants differ"
        )
    tensors = {key.removeprefix("module."): value for key, value in file.tensors.items()}
    places = {key: next((n for n in library_names(key) if n in tensors), None) for key in own}
    missing = [key for key, place in places.items() if place is None and not key.endswith(COUNTER)]
    unknown = sorted(set(tensors) - set(places.values()) - set(aside) - {n for n in tensors if only_classifies(n)})
    if missing or unknown:
        shown = f"it lacks {missing[0]!r}" if missing else f"it also has {unknown[0]!r}"
        hint = f" ({nearest(missing[0], unknown)})" if missing and unknown else ""
        raise UserError(
            f"{file.path} holds no backbone {name}: {shown}{hint}; {len(missing)} missing and {len(unknown)} unknown "
            f"of {len(own)} tensors"
        )
    found = {key: tensors[place] for key, place in places.items() if place is not None}
    for key, value in found.items():
        if value.shape != own[key].shape:
            raise UserError(
                f"{file.path} does not fit {name}: {places[key]} is {tuple(value.shape)} in the file, "
                f"{tuple(own[key].shape)} in the network"
            )
    return found


def library_names(key: str) -> Iterator[str]:
    """The names that a backbone's tensor may have in the whole classification network, the likeliest first.

    timm's lists of maps call ``stages.0`` ``stages_0``, or keep the network under ``model``; torchvision's call the
    children of ``features`` by their numbers alone.
    """
    plain = key.removeprefix("model.")
    first, _, rest = plain.partition(".")
    yield key
    yield plain
    for i in (i for i, letter in enumerate(first) if letter == "_"):
        yield f"{first[:i]}.{first[i + 1 :]}.{rest}"
    yield f"features.{key}"


def only_classifies(name: str) -> bool:
    """True for a tensor of a layer that only classifies images, by its name."""
    return name.split(".")[0] in CLASSIFIERS
