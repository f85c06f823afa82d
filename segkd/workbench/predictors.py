"""Models that label images: whatever holds one, opened with the names and colours of its classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from segkd.datasets import DATASETS
from segkd.datasets.class_lists import read_class_names
from segkd.datasets.palettes import spread_palette
from segkd.deploy.formats import OPENERS, open_file, split_how
from segkd.deploy.runtimes import Runtime, TorchRuntime
from segkd.errors import UserError, nearest
from segkd.training.build import class_names
from segkd.training.configfile import CONFIG, load_config
from segkd.training.state import BEST
from segkd.workbench.labelling import open_named_teacher
from segkd.workbench.records import record_of
from segkd.workbench.runs import default_device, load_student
from segkd.workbench.zoo import INT8, releases, resolve_release

DEFAULT = "fast_scnn_camvid"

Colour = tuple[int, int, int]
Stated = tuple[Sequence[str], Sequence[Sequence[int]] | None]  # names of classes, and their colours


class Classes(NamedTuple):
    """What a model's outputs mean.

    names, palette: a name and a colour (R, G, B) for each; where no name is known, "class 0" and so on.
    known: True if the names are known.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    known: bool


class Predictor(NamedTuple):
    """A model ready for images of any size, and its classes."""

    runtime: Runtime
    classes: Classes


def open_predictor(
    model: Any = None,
    device: str | None = None,
    threads: int = 2,
    classes: str | Path | Sequence[str] | None = None,
    said: Stated | None = None,
) -> Predictor:
    """A model with what is known of its classes.

    Args:
        model: an ONNX or OpenVINO file, ``@HOW`` behind it as of ``segkd.deploy.formats``; weights (.pth) in a run
            folder, or the folder; the name or folder of a released network, whose int8 file it is; NAME@FILE, a network
            of ``segkd models`` with its weights, or whatever else ``--teacher`` takes; a network; a Runtime. None is
            the released CamVid student.
        device: "cpu", "cuda", "cuda:1"; by default a GPU where there is one. ONNX files run on the CPU.
        threads: CPU threads.
        classes: the classes, where the model does not say them or says them wrongly: names, a text file with a name on
            each line, or the name of a data set.
        said: names and colours of the classes of a network that doesn't hold them.
    """
    stated = None if classes is None else _stated(classes)
    runtime, names, colours = _opened(DEFAULT if model is None else model, _device(device), threads, stated or said)
    count = runtime.num_classes
    if stated is not None:
        names, colours = stated
        if len(names) != count:
            raise UserError(f"the model has {count} classes, {classes} names {len(names)}")
    if names is None or len(names) != count:
        return Predictor(runtime, Classes(tuple(f"class {k}" for k in range(count)), spread_palette(count), False))
    return Predictor(runtime, Classes(tuple(names), _palette(names, colours), True))


Said = tuple[Runtime, Sequence[str] | None, Sequence[Sequence[int]] | None]


def _opened(model: Any, device: torch.device | None, threads: int, stated: Stated | None) -> Said:
    """The runtime, and the names and colours of its classes as far as something says them."""
    if isinstance(model, Runtime):
        _fits(model, device, "the model")
        return model, model.metadata.get("class_names"), model.metadata.get("palette")
    if isinstance(model, nn.Module):
        return _moved(model, device, threads), *(stated or (getattr(model, "class_names", None), None))
    if not isinstance(model, str | Path):
        raise UserError(f"a model is a network, a file, a run folder or a name, got {type(model).__name__}")
    source = resolve_release(model, INT8)
    if (Path(source) / INT8).is_file() and not (Path(source) / BEST).is_file():  # the folder of a release
        source = str(Path(source) / INT8)
    path, how = split_how(source)
    if path.suffix in OPENERS and ":" not in str(model):
        return _opened(open_file(source, threads, resize=True), device, threads, stated)
    weights = path / BEST if path.is_dir() and (path / CONFIG).is_file() else path
    if weights.suffix in (".pth", ".pt") and (weights.parent / CONFIG).is_file():
        cfg = load_config(weights.parent)
        named = stated or _named_by(cfg, weights)
        return _moved(load_student(cfg, weights), device, threads, how), *named
    if re.fullmatch(r"[\w.-]+", str(model)) and not path.exists():
        raise UserError(
            f"no model {str(model)!r}: no file, folder or released network; {nearest(str(model), releases())}"
        )
    network = open_named_teacher(str(model))
    return _moved(network, device, threads), *(stated or (network.class_names, None))


def _named_by(cfg: Mapping[str, Any], weights: Path) -> Stated:
    """The classes of a run, by its config; its data need not be there, unless they alone name them."""
    names = record_of(weights).class_names
    if names is not None and "palette" not in cfg["data"]["dataset"]:
        return names, None
    try:
        return class_names(cfg)
    except UserError as error:
        raise UserError(f"the classes of {weights} are not known ({error}); say them: --classes FILE") from error


def _moved(network: nn.Module, device: torch.device | None, threads: int, how: str = "") -> Runtime:
    return TorchRuntime(network.to(device or default_device()), threads, how.split("+") if how else ())


def _fits(runtime: Runtime, device: torch.device | None, what: str) -> None:
    if device is not None and device.type != runtime.device.type:
        raise UserError(
            f"{what} runs on {runtime.device.type}, not on {device}: give weights (.pth), or FILE.onnx@cuda"
        )


def _device(name: str | None) -> torch.device | None:
    if name is None:
        return None
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{name!r} is no device; give cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs here")
    return device


def _stated(classes: str | Path | Sequence[str]) -> Stated:
    if str(classes) in DATASETS.names() and not Path(str(classes)).exists():
        kind = DATASETS.resolve(str(classes))
        names, palette = getattr(kind, "class_names", None), getattr(kind, "palette", None)
        if names is None:
            raise UserError(
                f"the data set {classes!r} has no classes of its own: give a text file, a name on each line"
            )
        return names, palette
    return read_class_names(classes), None


def _palette(names: Sequence[str], colours: Sequence[Sequence[int]] | None) -> tuple[Colour, ...]:
    """The colours that were said; else those of the data set with these classes, else made up."""
    if colours is None or len(colours) != len(names):
        colours = next((c for known, c in _known() if list(known) == list(names)), spread_palette(len(names)))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)


def _known() -> list[tuple[Sequence[str], Sequence[Colour]]]:
    kinds = [DATASETS.resolve(name) for name in DATASETS.names()]
    sets: list[Mapping[str, Any]] = [vars(kind) for kind in kinds]
    return [(s["class_names"], s["palette"]) for s in sets if "class_names" in s and "palette" in s]
