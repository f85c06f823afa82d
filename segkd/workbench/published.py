"""Weights as their authors published them, written as ours with the preprocessing that they were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from segkd.errors import UserError, nearest
from segkd.evaluation.speed import count_parameters
from segkd.files import existing_file, replacing, writable_file
from segkd.models.backbones import save_backbone
from segkd.models.published import CHECKPOINTS
from segkd.models.published_backbones import BACKBONES


class Imported(NamedTuple):
    """A published file as ours.

    Attributes:
        network: name of the network's class.
        num_classes, outputs: how many of the file's outputs are classes, and how many it has.
        overrides: what the config must be told to build the network of the file.
        flags: the flags that compose the config by which it is scored.
        note: what else there is to know, or "".
    """

    network: str
    parameters: int
    num_classes: int
    outputs: int
    overrides: list[str]
    flags: str
    note: str


class ImportedBackbone(NamedTuple):
    """A published backbone as ours: the library's name of its network, and how many tensors the file holds."""

    network: str
    tensors: int


def known_files() -> dict[str, str]:
    """The name of every published file that can be imported, and where it comes from."""
    return {name: entry.source for name, entry in (CHECKPOINTS | BACKBONES).items()}


def import_published(name: str, file: str | Path, out: str | Path) -> Imported:
    """Read the published weights of a network ``name`` from ``file``, and write them to ``out`` under our names."""
    entry = CHECKPOINTS[_known(name)]
    file, out = _files(file, out)
    network = entry.load(file)
    with replacing(out) as temporary, temporary.open("wb") as stream:
        torch.save(network.state_dict(), stream)
    return Imported(
        network=type(network).__name__,
        parameters=count_parameters(network),
        num_classes=network.num_classes,
        outputs=entry.options["num_classes"],
        overrides=[f"model.network.{key}={value}" for key, value in entry.options.items()],
        flags=f"--student {entry.network} --data {entry.data}",
        note=entry.note,
    )


def is_backbone(name: str) -> bool:
    """True for the published weights of a backbone alone; an unknown name is a UserError."""
    return _known(name) in BACKBONES


def import_backbone(name: str, file: str | Path, out: str | Path) -> ImportedBackbone:
    """Read the published backbone ``name`` from ``file``, and write it to ``out`` as ``pretrained=`` takes it."""
    entry = BACKBONES[_known(name)]
    file, out = _files(file, out)
    backbone = entry.load(file)
    with replacing(out) as temporary:
        save_backbone(backbone, temporary)
    return ImportedBackbone(backbone.network, len(backbone.tensors))


def _known(name: str) -> str:
    known = known_files()
    if name not in known:
        raise UserError(f"no published weights are known as {name!r}; {nearest(name, known)}")
    return name


def _files(file: str | Path, out: str | Path) -> tuple[Path, Path]:
    """Both files, checked before the work."""
    file, out = existing_file(file, "weights file"), writable_file(out)
    if out.suffix not in (".pth", ".pt"):
        raise UserError(f"cannot write {out}: a weights file's name ends in .pth")
    if out.exists() and out.samefile(file):
        raise UserError(f"{out} is the published file itself; give --out another name")
    return file, out
