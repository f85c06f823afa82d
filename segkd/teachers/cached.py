"""A teacher that does not run: it has given its answers before (``segkd cache``), and they come with each batch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.datasets.answers import read_about
from segkd.errors import UserError
from segkd.models import Network, Preprocess
from segkd.views import cells_of


class CachedTeacher(Network):
    """The answers in a folder in the place of the network that gave them.

    Its taps are those that were kept, under their own names or as roles.

    Args:
        source: the folder.
    """

    fingerprint: Tensor

    def __init__(self, source: str | Path) -> None:
        about = read_about(Path(source))
        super().__init__(about["num_classes"])
        self.source, self.class_names = Path(source), about["class_names"]
        text = json.dumps(about, sort_keys=True).encode()
        self.register_buffer("fingerprint", torch.tensor(zlib.crc32(text)))  # what tells this teacher from others
        self._taps: dict[str, Mapping[str, Any]] = {tap["path"]: tap for tap in about["taps"]}
        self._logits: Mapping[str, Any] | None = about["logits"]
        self._names = {path: _name(path, number) for number, path in enumerate(self._taps)}
        for name in filter(None, self._names.values()):
            _place(self, name)
        own = {role: _renamed(self._names, paths) for role, paths in about["roles"].items()}
        self.roles = {**dict.fromkeys(("classifier", "head", "backbone", "stages"), ()), "logits": "", **own}

    def forward(self, x: Tensor) -> Tensor:
        """Maps of zeros, of the right shapes: for what asks how its taps look. A training gets ``recall``."""
        maps = {
            path: x.new_zeros(len(x), tap["channels"], *cells_of(x.shape[-2:], tap["cells"], tap["image"]))
            for path, tap in self._taps.items()
        }
        for path, name in self._names.items():
            maps[path] = self.get_submodule(name)(maps[path]) if name else maps[path]
        return self._answer(maps, x.shape[-2:])

    def recall(self, answers: Mapping[str, Tensor], taps: Sequence[str], size: Sequence[int]) -> dict[str, Tensor]:
        """What the taps give, for images of ``size`` (H, W), of the maps (N, C, h, w) that came with a batch."""
        if self._logits is None and "" in taps:
            raise UserError(f"{self.source} holds no logits: `segkd cache` keeps them for a recipe that compares them")
        maps = {path: answers[path].float() for path in self._taps}
        known = {name: maps[path] for path, name in self._names.items()} | maps
        return {text: self._answer(maps, size) if text == "" else known[text] for text in taps}

    def _answer(self, maps: Mapping[str, Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the size of the image; zeros where none were kept, which ``recall`` does not come to."""
        if self._logits is None:
            like = next(iter(maps.values()))
            return like.new_zeros(len(like), self.num_classes, *size)
        kept = maps[self._logits["tap"]]
        if tuple(kept.shape[-2:]) == tuple(size):
            return kept
        return F.interpolate(kept, size=tuple(size), mode="bilinear", align_corners=self._logits["align_corners"])


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """The answers in a folder, as a teacher.

    Args:
        name, num_classes, download: not used.
        file: the folder.
        preprocess: refused: no image is seen.
    """
    if file is None:
        raise UserError(f"no such folder: {name}; answers are cache:FOLDER")
    if preprocess is not None:
        raise UserError(f"{file} holds answers, and sees no image: leave out preprocess=")
    return CachedTeacher(file)


def _name(path: str, number: int) -> str:
    """The name of a tap's layer here: its own, unless it is more than a layer's path."""
    return path if not set(path) & set(":@#") else f"map{number}"


def _renamed(names: Mapping[str, str], paths: str | list[str]) -> str | list[str]:
    return names[paths] if isinstance(paths, str) else [names[path] for path in paths]


def _place(root: nn.Module, path: str) -> None:
    """Put a layer that passes on what it gets at a path, with the modules on the way."""
    *above, last = path.split(".")
    for part in above:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if last in dict(root.named_children()):
        raise UserError(f"cannot tell the taps {path!r} and those within it apart: keep them in folders of their own")
    root.add_module(last, nn.Identity())
