"""The files that a student can be shipped as on this machine: sizes, runtimes, int8 or not, tails of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx

from segkd.datasets import SegmentationDataset
from segkd.deploy.formats import open_file
from segkd.deploy.runtimes import Runtime
from segkd.deploy.tail import make_labels, tails_of
from segkd.deploy.trained import Trained
from segkd.errors import UserError, nearest
from segkd.workbench.deployment import export_run, quantize_file

NNCF = "nncf"
#: way to run it -> what is quantised ("": nothing), and how the file is run
WAYS: Mapping[str, tuple[str, str]] = {
    "onnxruntime": ("", ""),
    "onnxruntime int8": ("all", ""),
    "onnxruntime int8 conv": ("conv", ""),
    "openvino": ("", "@openvino"),
    "openvino bf16": ("", "@openvino-bf16"),
    "openvino int8": (NNCF, ""),
}


@dataclass(frozen=True)
class Candidate:
    """A file to be tried.

    Attributes:
        size: (H, W) of its images.
        way: one of ``WAYS``.
        tail: where labels are taken (`segkd.deploy.tail.TAILS`).
        file: where it lies.
    """

    size: tuple[int, int]
    way: str
    tail: str
    file: Path

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.size[0]}x{self.size[1]} {self.way}, {self.tail}"

    def open(self, threads: int) -> Runtime:
        """What runs it, for images of any size (resized)."""
        return open_file(f"{self.file}{WAYS[self.way][1]}", threads, resize=True)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "size": list(self.size), "file": self.file.name, "name": self.name}


def usable_ways(asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The ways that this machine has, of those asked for; an unknown or a missing one that is asked for is an error."""
    for way in asked:
        if way not in WAYS:
            raise UserError(f"unknown way {way!r} to run a file; {nearest(way, WAYS)}")
    return tuple(way for way in asked or WAYS if _is_usable(way, bool(asked)))


def _is_usable(way: str, asked: bool) -> bool:
    if not way.startswith("openvino"):
        return True
    missing = [name for name in ("openvino", "nncf") if find_spec(name) is None]
    if missing:
        if asked:
            raise UserError(f"{missing[0]} is not installed: pip install 'segkd[openvino]'")
        return False
    if way == "openvino bf16":
        from segkd.deploy.openvino import has_bf16

        if not has_bf16():
            if asked:
                raise UserError("this CPU has no bf16 (AVX512-BF16 or AMX): OpenVINO would compute in float32")
            return False
    return True


def make_candidates(
    cfg: Mapping[str, Any],
    weights: str | Path,
    size: tuple[int, int],
    training: SegmentationDataset,
    folder: Path,
    ways: Sequence[str],
    *,
    images: int = 16,
    threads: int = 2,
) -> Iterator[Candidate]:
    """Every file of one size, made where it does not lie in ``folder`` yet."""
    stem = f"{size[0]}x{size[1]}"
    shared: Any = {"images": images, "threads": threads}
    logits = _made(folder / f"{stem}.onnx", partial(export_run, cfg, weights, size))
    ways = as_trained(logits, ways)
    sources = {"": logits}
    for kind in dict.fromkeys(WAYS[way][0] for way in ways):
        if kind not in ("", NNCF):
            make = partial(_quantize, logits, training, op_types=kind, **shared)
            sources[kind] = _made(folder / f"{stem}_int8_{kind}.onnx", make)
    for tail in tails_of(onnx.load(str(logits))):
        labels = {
            kind: _made(folder / f"{source.stem}_{tail}.onnx", partial(_label, source, tail))
            for kind, source in sources.items()
        }
        for way in ways:
            kind = WAYS[way][0]
            if kind == NNCF:
                make = partial(_quantize, labels[""], training, route="openvino", **shared)
                yield Candidate(size, way, tail, _made(folder / f"{stem}_nncf_{tail}.xml", make))
            else:
                yield Candidate(size, way, tail, labels[kind])


def as_trained(logits: Path, ways: Sequence[str]) -> list[str]:
    """The ways that fit a student that was trained with an int8 file's rounding; all of them for any other."""
    trained = Trained.read(logits)
    if trained is None:
        return list(ways)
    return [way for way in ways if WAYS[way][0] in ("", trained.ops if trained.route == "onnxruntime" else "")]


def _quantize(source: Path, training: SegmentationDataset, target: Path, **options: Any) -> None:
    quantize_file(source, training, target, **options)


def _label(source: Path, tail: str, target: Path) -> None:
    make_labels(source, target, tail)


def _made(path: Path, make: Any) -> Path:
    """The file, made unless it is there."""
    if not path.is_file():
        make(path)
    return path
