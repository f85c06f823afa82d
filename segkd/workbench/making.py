"""Configs made of what Python gives: networks, data sets and losses by name, by dict or as objects; plain words."""

from __future__ import annotations

import copy
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import segkd
from segkd.binding import Bind
from segkd.datasets import DATASETS, SegmentationDataset
from segkd.datasets.base import RGB
from segkd.datasets.huggingface import was_saved
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError, nearest
from segkd.files import existing_file
from segkd.losses import LOSSES, DistillationLoss
from segkd.models import NETWORKS, Network
from segkd.models import catalogue as known
from segkd.models.own import OwnNetwork
from segkd.models.statedict import read_state_dict
from segkd.registry import description
from segkd.training.config import Config
from segkd.training.configfile import KINDS, load_config, parts, plain
from segkd.training.overrides import override, set_words

SPLITS = ("train", "val", "test")
OPTIMIZER = dict(type="AdamW", lr=1e-3, weight_decay=1e-2)
LARGEST_CROP = (512, 1024)
OF_SET = ("data.dataset.", "data.root=")  # what overrides begin with that say which data set it is


def is_config(given: Any) -> bool:
    """True if a config is meant, by a dict, a file or a run folder, and no network."""
    if isinstance(given, Mapping):
        return "type" not in given
    if isinstance(given, str):
        return not _is_network(given)
    return isinstance(given, Path | Config)


def _is_network(name: str) -> bool:
    return name in known.catalogue() or name in NETWORKS.names()


def open_config(given: Any, data: Any = None, root: str | Path | None = None) -> dict[str, Any]:
    """A config as plain dictionaries of the caller's own, with another data set or another root where that is given."""
    if isinstance(given, str | Path):
        named = any(str(given) in parts(kind) for kind in KINDS)  # load_config says what composes with it
        if not Path(given).exists() and "/" not in str(given) and not named:
            raise UserError(
                f"{str(given)!r} is neither a network nor a config; {nearest(str(given), known.catalogue())}"
            )
        cfg = load_config(given)
    else:
        cfg = plain(given.to_dict() if isinstance(given, Config) else given)
    if isinstance(data, str | Path) and str(data) not in DATASETS.names():
        data, root = None, data  # as --data ROOT
    if data is not None:
        section = data_section(data, root)
        kept = {key: value for key, value in cfg.get("data", {}).items() if key not in (*SPLITS, "dataset")}
        cfg["data"] = {**section, **kept}
    elif root is not None:
        set_words(cfg, root=str(root))
    return cfg


def complete(
    cfg: dict[str, Any],
    config: Any,
    overrides: Sequence[str],
    words: Mapping[str, Any],
    fill: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A config with further sections, plain words and overrides in it, in this order; then what ``fill`` makes of it.

    It is checked as a file's is.
    """
    if config is not None and not isinstance(config, Mapping):
        raise UserError(f"config= takes a dictionary of further keys, got {config!r}")
    cfg = merged(plain(cfg), plain(config or {}))  # copies: the caller's stay as they are
    set_words(cfg, **words)
    if isinstance(overrides, str):
        raise UserError(f"overrides is a list of 'key.sub=value', got the string {overrides!r}; write [{overrides!r}]")
    for text in overrides:
        override(cfg, text)
    cfg = fill(cfg) if fill else cfg
    Config.of(cfg)
    folders = [folder for folder in dict.fromkeys(_own_folders(cfg)) if folder not in cfg.get("imports", ())]
    return {**cfg, "imports": [*cfg.get("imports", ()), *folders]} if folders else cfg


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with another over it, level by level; what names another ``type`` takes the whole place."""
    both = {key: merged(old[key], value) for key, value in new.items() if _same_kind(old.get(key), value)}
    return {**old, **new, **both}


def _same_kind(old: Any, new: Any) -> bool:
    return isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("type", old.get("type")) == old.get("type")


def _own_folders(value: Any) -> Iterator[str]:
    """The folders from which the classes in a config are imported, but for installed ones and segkd's."""
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _own_folders(inner)
        return
    kind = value if inspect.isclass(value) or inspect.isfunction(value) else type(value)
    top = sys.modules.get(kind.__module__.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file and kind.__module__ != "__main__":
        folder = Path(file).resolve().parents[1 if Path(file).name == "__init__.py" else 0]
        installed = [Path(path).resolve() for path in sysconfig.get_paths().values()]
        if folder != Path(segkd.__file__).resolve().parents[1] and not any(map(folder.is_relative_to, installed)):
            yield str(folder)


def named_network(name: str) -> dict[str, Any]:
    """Type and options of a network of the catalogue."""
    if not _is_network(name):
        raise UserError(f"unknown network {name!r}; {nearest(name, known.catalogue())}")
    entry = known.entry(name)
    return {"type": entry.name, **entry.options}


def network_config(given: Any, count: int) -> Any:
    """A network by name, class or dict as a config for ``count`` classes; a Network or any other module as it is."""
    if isinstance(given, str):
        return {**named_network(given), "num_classes": count}
    if inspect.isclass(given):
        return dict(type=given, num_classes=count)
    if isinstance(given, Mapping):
        return {**given, "num_classes": given.get("num_classes", count)}
    if not isinstance(given, nn.Module):
        raise UserError(f"a network is given by its name, a class, dict(type=...) or a torch module, got {given!r}")
    return given if isinstance(given, Network) else OwnNetwork(given, count)


def begun(network: Any, init: str | Path) -> dict[str, Any]:
    """The config of a network that begins with the weights of a file, as far as they fit."""
    if not isinstance(network, Mapping):
        raise UserError("init= is for a network by name or dict(type=...): an object has the weights that it has")
    return {**network, "init": str(existing_file(init, "weights file"))}


def teacher_config(given: Any, count: int) -> Any:
    """The same for a teacher. A module counts as trained; what it was made of is kept if that has its weights."""
    if given is None:
        raise UserError("no teacher: give teacher= a run, dict(type=..., weights=...), or a trained network")
    network = network_config(given, count)
    made_of = description(network)
    if made_of is not None and made_of.get("weights") and not _holds(network, made_of["weights"]):
        made_of = {key: value for key, value in made_of.items() if key not in ("type", "weights")}
        vars(network)["_made_of"] = ((), made_of)  # it was trained on since
    return network


def _holds(network: Network, weights: str | Path) -> bool:
    own, kept = network.state_dict(), read_state_dict(weights)
    return own.keys() == kept.keys() and all(torch.equal(own[key].cpu(), kept[key]) for key in own)


def trained(cfg: Mapping[str, Any], weights: Path) -> Any:
    """The config of a run's student with the weights of a file; None for one whose making is not known."""
    network = cfg["model"].get("student", cfg["model"].get("network"))
    made_of = network if isinstance(network, Mapping) else description(network)
    if made_of is None:
        return None
    return {**{k: v for k, v in made_of.items() if k != "pretrained"}, "weights": str(weights.resolve())}


def bind_configs(given: Any) -> dict[str, Any]:
    """Binds of {name: Bind, dict, or loss}; of a loss, or several, by name, dict or object: on the logits."""
    if isinstance(given, str | DistillationLoss) or (isinstance(given, Mapping) and "type" in given):
        given = [given]
    if not isinstance(given, Mapping):
        given = {_loss_name(loss): loss for loss in given}
    return {name: _bind_config(value) for name, value in given.items()}


def _loss_name(loss: Any) -> str:
    kind = loss.get("type") if isinstance(loss, Mapping) else loss
    return kind if isinstance(kind, str) else (kind if inspect.isclass(kind) else type(kind)).__name__.lower()


def _bind_config(given: Any) -> Any:
    if isinstance(given, Bind):
        return {key: value for key, value in fresh(given).items() if key != "type"}
    if isinstance(given, str | DistillationLoss) or (isinstance(given, Mapping) and "type" in given):
        loss = dict(type=given) if isinstance(given, str) else fresh(given)
        return dict(student="", teacher="", loss=loss, masked=bool(LOSSES.resolve(loss["type"]).takes_mask))
    return fresh(given)


def fresh(value: Any) -> Any:
    """Losses, connectors, binds and training models by what they were made of, so that every run makes its own."""
    if isinstance(value, Mapping):
        return {key: fresh(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(fresh(inner) for inner in value)
    made_of = None if isinstance(value, Network | SegmentationDataset) else description(value)
    return value if made_of is None else fresh(made_of)


def data_section(
    given: Any, root: str | Path | None = None, size: Sequence[int] | None = None, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """``data`` of a config.

    Args:
        given: a data set's name, class or dict(type=...), whose splits are those that it knows; the path of a
            folder of one's own; an object, or several
        root: root folder of a data set.
        size: (H, W) of the training crops; by default the first image's, but at most 512x1024.
        overrides: those of a config; what they say of the data set holds for that first image, too.
    """
    if given is None:
        raise UserError("no data set: give data= a name (with root=...), dict(type=...), or data sets")
    section = dict(given) if isinstance(given, Mapping) and "dataset" in given else _splits(given)
    if root is not None:
        section["dataset"] = {**section["dataset"], "root": str(root)}
    if any(text.startswith(OF_SET) for text in overrides):
        section = {key: dict(one) if isinstance(one, Mapping) else one for key, one in section.items()}
        for text in overrides:
            if text.startswith(OF_SET):
                override({"data": section}, text)
    if "augment" not in section:
        crop = size or [min(pair) for pair in zip(first_split(section)[0].label.shape, LARGEST_CROP, strict=True)]
        section["augment"] = dict(type=TrainTransform, crop_size=tuple(map(int, crop)))
    return section


def _splits(given: Any) -> dict[str, Any]:
    if isinstance(given, SegmentationDataset):
        made_of = description(given)
        if made_of is None or "split" not in inspect.signature(type(given)).parameters:
            raise UserError(f"one {type(given).__name__} is no data set of two splits: give data=(train, val)")
        dataset = {key: value for key, value in made_of.items() if key != "split"}
        return dict(dataset=dataset, train=given, val=dict(split="val"), test=dict(split="test"))
    if isinstance(given, list | tuple):
        given = dict(zip(SPLITS, given, strict=False))
    if isinstance(given, Mapping) and "type" not in given:
        for name in given:
            if name not in SPLITS:
                raise UserError(f"data sets are given as train, val and test, not {name!r}; {nearest(name, SPLITS)}")
        return dict(dataset={}, **{name: _dataset(one, name) for name, one in given.items()})
    if isinstance(given, str | Path):
        given = own_folder(given)
    kind = DATASETS.resolve(given["type"] if isinstance(given, Mapping) else given)
    dataset = dict(given) if isinstance(given, Mapping) else dict(type=given)
    if "split" not in inspect.signature(kind).parameters:
        raise UserError(
            f"{kind.__name__} has no splits of its own: give data=dict(train=dict(type=...), val=dict(...))"
        )
    own = kind.splits_of(dataset) if hasattr(kind, "splits_of") else getattr(kind, "splits", SPLITS)
    return dict(dataset=dataset, **{name: dict(split=name) for name in own})


def own_folder(given: str | Path) -> Any:
    """The data set of a folder, in which names tell what is what; anything else as it is, for the name of a data set.

    Raises:
        UserError: a path at which no folder is.
    """
    path = Path(given).expanduser()
    if str(given) in DATASETS.names():
        return str(given)
    if path.is_dir():
        return dict(type="huggingface" if was_saved(given) else "folder", root=str(given))
    if isinstance(given, Path) or "/" in given or path.exists():
        raise UserError(f"data {str(given)!r} is no folder: name one with images and labels in it, or a data set")
    return given


def _dataset(given: Any, split: str) -> Any:
    if isinstance(given, Mapping | SegmentationDataset):
        return given
    raise UserError(
        f"the {split} data set must be dict(type=...) or an object of a class made of "
        f"segkd.datasets.SegmentationDataset, got {given!r}"
    )


def first_split(section: Mapping[str, Any]) -> SegmentationDataset:
    """The training split of a data section."""
    own = section.get("train") or {}
    return DATASETS.build({**section["dataset"], **own} if isinstance(own, Mapping) else own)


def num_classes(section: Mapping[str, Any]) -> int:
    """The number of classes of a data section: of its class, if that tells."""
    kind = section["dataset"].get("type")
    names = getattr(DATASETS.resolve(kind), "class_names", None) if kind else None
    return len(names) if isinstance(names, Sequence) else first_split(section).num_classes


def num_channels(section: Mapping[str, Any]) -> int:
    """The bands of the images of a data section."""
    dataset, kind = section["dataset"], section["dataset"].get("type")
    if "channels" in dataset:
        return int(dataset["channels"])
    inner = kind is None or any(key in inspect.signature(DATASETS.resolve(kind)).parameters for key in ("sets", "of"))
    return int(getattr(first_split(section) if inner else DATASETS.resolve(kind), "channels", RGB))


def for_training(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The config with a copy of the network to train, if that was given as an object: the caller's stays as it is."""
    model = cfg["model"]
    key = "student" if "student" in model else "network"
    own = model.get(key)
    return {**cfg, "model": {**model, key: copy.deepcopy(own)}} if isinstance(own, nn.Module) else dict(cfg)


def label(given: Any) -> str | None:
    """A name for a network or a data set that was given, for a folder; None for several."""
    if isinstance(given, OwnNetwork):
        given = given.module
    if isinstance(given, Mapping):
        given = given.get("type")
    if isinstance(given, str | None):
        return given
    if isinstance(given, list | tuple):
        return None
    return (given if inspect.isclass(given) else type(given)).__name__.lower()
