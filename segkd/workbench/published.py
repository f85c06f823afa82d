"""Weights as their authors published them, written as ours with the preprocessing that they were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from segkd.errors import UserError
from segkd.evaluation.speed import count_parameters
from segkd.files import existing_file, replacing, writable_file
from segkd.models.published import CHECKPOINTS, checkpoint


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


def known_files() -> dict[str, str]:
    """The name of every published file that can be imported, and where it comes from."""
    return {name: entry.source for name, entry in CHECKPOINTS.items()}


def import_published(name: str, file: str | Path, out: str | Path) -> Imported:
    """Read the published weights ``name`` from ``file``, and write them to ``out`` under our names."""
    entry = checkpoint(name)
    file, out = existing_file(file, "weights file"), writable_file(out)
    if out.suffix not in (".pth", ".pt"):
        raise UserError(f"cannot write {out}: a weights file's name ends in .pth")
    if out.exists() and out.samefile(file):
        raise UserError(f"{out} is the published file itself; give --out another name")
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
