"""State dicts as the tools of the field save them: read as tensors alone, unwrapped, without the prefixes of wrappers.

What a file wraps its tensors in is found by name; nothing in it is run.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.errors import UserError, first_line

#: keys under which training tools keep a state dict, the weights as trained before an average of them
WRAPPINGS: tuple[str, ...] = ("state_dict", "model_state_dict", "model", "net", "network", "module")
WRAPPINGS += ("ema", "model_ema", "state_dict_ema", "ema_state_dict")
#: what DataParallel, Lightning modules and torch.compile put before every name
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")
LIGHTNING = "pytorch-lightning_version"
#: counted by torch's AveragedModel beside the weights
COUNTER = "n_averaged"
WORTHLESS = re.compile(r"(^|\.)preprocess\.|num_batches_tracked$")  # nothing is known from these alone


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """A file's tensors by name, on the CPU: .pth, .pt, .ckpt and .bin of torch.save, or .safetensors.

    Found under the usual wrappings (``WRAPPINGS``, nested too; of several the first), without the ``PREFIXES`` that all
    names have; of a Lightning checkpoint, the part below ``model.`` or ``net.`` (not its losses and metrics).

    Raises:
        UserError: no such file, one that cannot be read, one that holds no tensors by name, or one that holds code: it
            is never run, and the message says how to take the tensors out with the tool that wrote it.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"weights file not found: {path}")
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    found = _unwrapped(content)
    tensors = {str(k): v for k, v in found.items()} if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(v, Tensor) for v in tensors.values()):
        keys = f"; its keys: {', '.join(map(str, list(content)[:8]))}" if isinstance(content, Mapping) else ""
        raise UserError(f"{path} holds no state dict of tensors{keys}")
    if isinstance(content, Mapping) and LIGHTNING in content:
        tensors = _network_of_lightning(tensors)
    return _peeled(tensors)


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read weights file {path}: {first_line(error)}") from error


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            raise UserError(
                f"{path} holds code beside its tensors ({code[1]}), which is not run; where it was made: "
                f"torch.save(torch.load({path.name!r}, weights_only=False){_access(path)}, 'tensors.pth')"
            ) from error
        raise UserError(
            f"cannot read weights file {path} ({type(error).__name__}): it must be tensors alone, saved by torch.save "
            "or safetensors"
        ) from error


def _access(path: Path) -> str:
    """Python that takes the state dict out of what a file holds: a module, or a dict with either under a usual key."""
    if not zipfile.is_zipfile(path):
        return "['state_dict']"
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        steps = [(step.name, argument) for step, argument, _ in pickletools.genops(archive.read(name))]
    if steps[1][0] != "EMPTY_DICT":
        return ".state_dict()"
    words = [argument for _, argument in steps if isinstance(argument, str)]
    key = next((name for name in WRAPPINGS if name in words), "state_dict")
    after = words[words.index(key) + 1] if key in words[:-1] else ""  # a class comes next, or a dict and its first name
    return f"[{key!r}]" + (".state_dict()" if " " in after and not after.startswith("collections ") else "")


def _unwrapped(content: Any) -> Any:
    """What lies inside of all wrappings."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPINGS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _network_of_lightning(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The one network of a LightningModule, without what trains it."""
    parts = [{k: v for k, v in tensors.items() if k.startswith(prefix)} for prefix in ("model.", "net.")]
    found = [part for part in parts if part]
    return found[0] if len(found) == 1 else tensors


def common_prefix(names: Iterable[str]) -> str:
    """The longest chain of ``PREFIXES`` that all names begin with (``module.model.``)."""
    rest, found = list(names), ""
    while rest:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in rest)), None)
        if prefix is None:
            break
        found += prefix
        rest = [name.removeprefix(prefix) for name in rest]
    return found


def _peeled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    counted = {k: v for k, v in tensors.items() if k.split(".")[-1] != COUNTER}
    if len(counted) < len(tensors) and common_prefix(counted):
        tensors = counted
    prefix = common_prefix(tensors)
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def named_as_in(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """What ``read_state_dict`` gave, with the prefix back that all names of ``network`` itself begin with."""
    prefix = common_prefix(network.state_dict())
    return {prefix + name: value for name, value in tensors.items()}


def init_weights(network: nn.Module, file: str | Path) -> list[str]:
    """Load of a file what fits ``network`` by name and shape; one line for each layer or part that did not fit.

    A file may hold another head, or a part of the network alone (an encoder's own file); which part that is, is found
    by the names. What does not fit stays as it was made.

    Raises:
        UserError: nothing fits.
    """
    own, tensors = network.state_dict(), named_as_in(read_state_dict(file), network)
    places = ["", *(f"{name}." for name, _ in network.named_children())]
    place = max(places, key=lambda start: len(_fitting(own, tensors, start)))
    fitting = _fitting(own, tensors, place)
    if all(WORTHLESS.search(name) for name in fitting):
        shown = f"{next(iter(tensors))!r} in the file, {next(iter(own), '')!r} in the network"
        raise UserError(f"{file}: no tensor fits {type(network).__name__} by name and shape ({shown})")
    network.load_state_dict({place + name: tensors[name] for name in fitting}, strict=False)
    return [
        *(
            f"{place}{name}: {tuple(value.shape)} in the file, {tuple(own[place + name].shape)} in the network"
            for name, value in tensors.items()
            if place + name in own and name not in fitting
        ),
        *_groups(
            {n for n in own if n.removeprefix(place) not in tensors or not n.startswith(place)}, "not in the file"
        ),
        *_groups({n for n in tensors if place + n not in own}, "in the file alone"),
    ]


def _fitting(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], place: str) -> set[str]:
    """Names of the file's tensors that have their like in the network, below ``place``."""
    return {name for name, value in tensors.items() if place + name in own and own[place + name].shape == value.shape}


def _groups(names: Iterable[str], what: str) -> list[str]:
    """A line for each top-level part with how many of its tensors it is about."""
    counts: dict[str, int] = {}
    for name in sorted(names):
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return [f"{part}: {count} tensor{'s' * (count > 1)} {what}" for part, count in counts.items()]
