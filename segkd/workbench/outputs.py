"""What is written of a prediction, and under which names."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkd.datasets.cityscapes import TRAINED_IDS, Cityscapes
from segkd.datasets.image_files import visible
from segkd.errors import UserError, nearest
from segkd.files import writable_file, writable_folder
from segkd.report.legends import beside
from segkd.report.pictures import Image, colourise, grey_png, overlay, palette_png, png
from segkd.workbench.prediction import Prediction
from segkd.workbench.predictors import Classes
from segkd.workbench.sources import CAMERA, STILL, Source
from segkd.workbench.videos import CODECS

LEGENDS = ("file", "beside")
LEAST_SHARE = 0.05  # percent of an image that puts a class into the legend beside it
SEVERAL = "segmented"
FEW = 40  # classes that a legend beside an image shows all of


class Style(NamedTuple):
    """How results are written.

    alpha: weight of the colours in overlays.
    beside: a legend is at the right of overlays.
    keep: files that are there already stay as they are.
    """

    alpha: float = 0.5
    beside: bool = False
    keep: bool = False


def _overlay(seen: Prediction, style: Style) -> Image:
    picture = overlay(visible(seen.image), seen.label, seen.palette, style.alpha)
    if not style.beside:
        return picture
    entries = list(zip(seen.class_names, seen.palette, strict=True))
    if seen.frame is None and len(entries) > FEW:
        entries = [(share.name, share.colour) for share in seen.shares() if share.percent >= LEAST_SHARE]
    return beside(picture, entries)


def _colours(seen: Prediction, style: Style) -> Image:
    return colourise(seen.label, seen.palette)


def _colour_file(seen: Prediction, style: Style) -> bytes:
    if seen.label.dtype != np.uint8:
        return png(_colours(seen, style))
    return palette_png(seen.label.astype(np.uint8, copy=False), seen.palette)


def _ids(seen: Prediction, style: Style) -> bytes:
    return grey_png(seen.label)


def _cityscapes(seen: Prediction, style: Style) -> bytes:
    return grey_png(cityscapes_ids(seen.class_names)[seen.label])


def _soft(seen: Prediction, style: Style) -> bytes:
    assert seen.scores is not None
    stream = io.BytesIO()
    np.savez_compressed(stream, scores=seen.scores, class_names=np.array(seen.class_names))
    return stream.getvalue()


class Kind(NamedTuple):
    """One kind of what is written.

    suffix: of its files.
    encode: a prediction -> such a file's content.
    frame: a prediction -> a picture (H, W, 3) uint8 RGB of a video; None where a video gives a file for each frame.
    """

    suffix: str
    encode: Callable[[Prediction, Style], bytes]
    frame: Callable[[Prediction, Style], Image] | None = None


#: by the words of ``--write``
KINDS = {
    "overlay": Kind(".png", lambda seen, style: png(_overlay(seen, style)), _overlay),
    "colours": Kind(".png", _colour_file, _colours),
    "ids": Kind(".png", _ids),
    "cityscapes": Kind(".png", _cityscapes),
    "soft": Kind(".npz", _soft),
}


def check_kinds(words: str | Iterable[str]) -> tuple[str, ...]:
    """Kinds by their words, with commas between them or as a list."""
    kinds = tuple(word.strip() for word in words.split(",")) if isinstance(words, str) else tuple(words)
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"nothing of the kind {kind!r} is written; {nearest(kind, KINDS)}")
        if kinds.count(kind) > 1:
            raise UserError(f"{kind} is named twice")
    if not kinds:
        raise UserError(f"say what to write: {', '.join(KINDS)}")
    return kinds


def cityscapes_ids(names: Sequence[str]) -> NDArray[np.uint8]:
    """The official label id of each class, as the Cityscapes server wants them (labelIds, not train ids)."""
    known = dict(zip(Cityscapes.class_names, TRAINED_IDS, strict=True))
    return np.array([known[name] for name in names], np.uint8)


def check_cityscapes(classes: Classes) -> None:
    """Refuse what the Cityscapes server would take for other classes."""
    if not classes.known:
        raise UserError(
            f"what the model's {len(classes.names)} classes are is not known, so they can't be written as Cityscapes' "
            "ids: if they are its 19 in their order, say --classes cityscapes"
        )
    for name in classes.names:
        if name not in Cityscapes.class_names:
            raise UserError(
                f"Cityscapes has no class {name!r}, so the model's classes can't be written as its ids; "
                f"{nearest(name, Cityscapes.class_names)}"
            )


@dataclass(frozen=True)
class Layout:
    """Where results go.

    Attributes:
        out: the folder, or the file of the only result.
        kinds: what is written of each source.
        single: ``out`` is a file.
    """

    out: Path
    kinds: tuple[str, ...]
    single: bool

    def file(self, kind: str, source: Source, frame: int | None = None) -> Path:
        """The file of an image, of a video, or of one of its frames."""
        if self.single:
            return self.out
        folder = self.out / kind if len(self.kinds) > 1 else self.out
        if frame is not None:
            return folder / source.name / f"{frame:06d}{KINDS[kind].suffix}"
        return folder / f"{source.name}{KINDS[kind].suffix if source.kind in STILL else '.mp4'}"

    def place(self, kind: str, source: Source) -> Path:
        """The file of a source's result, or the folder of its frames."""
        path = self.file(kind, source, None if is_filmed(kind) or source.kind in STILL else 0)
        return path if self.single or is_filmed(kind) or source.kind in STILL else path.parent

    def places(self, source: Source) -> Iterator[Path]:
        """All of a source."""
        return (self.place(kind, source) for kind in self.kinds)

    @property
    def legend(self) -> Path:
        """The file of the legend."""
        return self.out.with_name(f"{self.out.stem}_legend.png") if self.single else self.out / "legend.png"


def is_filmed(kind: str) -> bool:
    """True if a video's results of that kind are a video."""
    return KINDS[kind].frame is not None


def default_folder(words: Sequence[Any]) -> Path:
    """The folder of results in the working folder: called by what is segmented, if that is one thing."""
    word = str(words[0]) if len(words) == 1 and isinstance(words[0], str | os.PathLike) else ""
    camera = CAMERA.fullmatch(word)
    name = f"camera{camera[1]}" if camera else Path(word).expanduser().resolve().stem if Path(word).exists() else ""
    return Path(f"{name}_{SEVERAL}" if name else SEVERAL)


def lay_out(words: Sequence[Any], sources: Sequence[Source], kinds: tuple[str, ...], out: str | Path | None) -> Layout:
    """Where the results of sources go.

    Args:
        words: what the sources were named by.
        sources, kinds: what there is to write.
        out: a file, of one image or video and one kind; or a folder (default: either, in the working folder).

    Raises:
        UserError: a file for several results, a name whose suffix doesn't fit, what can't be written to.
    """
    in_folder = len(words) == 1 and isinstance(words[0], str | os.PathLike) and Path(words[0]).is_dir()
    one = sources[0] if len(sources) == 1 else None
    suffixes = _suffixes(one, kinds)
    if out is None:
        if one is None or not suffixes or in_folder:
            return Layout(writable_folder(default_folder(words)), kinds, False)
        ending = SEVERAL if kinds == ("overlay",) else kinds[0]
        return Layout(writable_file(f"{Path(one.name).name}_{ending}{suffixes[0]}"), kinds, True)
    path, ends = Path(out).expanduser(), str(out).endswith((os.sep, "/"))
    if path.is_dir() or ends or not path.suffix:
        return Layout(writable_folder(path), kinds, False)
    if suffixes and path.suffix.lower() in suffixes:
        return Layout(writable_file(path), kinds, True)
    if suffixes:
        raise UserError(
            f"cannot write {path}: {_said(kinds[0], one)}; name it ....{suffixes[0][1:]}, or a folder: {path}/"
        )
    if path.suffix.lower() in {".png", ".npz", ".jpg", ".jpeg", *CODECS}:
        several = f"{len(sources)} results" if one is None else f"{', '.join(kinds)} of {one}"
        raise UserError(f"cannot write {several} into the file {path}: name a folder")
    return Layout(writable_folder(path), kinds, False)


def _suffixes(one: Source | None, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the file of the only result may have; none if there is no such file."""
    if one is None or len(kinds) > 1:
        return ()
    if one.kind in STILL:
        return (KINDS[kinds[0]].suffix,)
    return (".mp4", *(suffix for suffix in CODECS if suffix != ".mp4")) if is_filmed(kinds[0]) else ()


def _said(kind: str, one: Source | None) -> str:
    if one is not None and one.kind not in STILL:
        return f"the {kind} of a video is a video"
    return {"overlay": "the overlay is a PNG", "soft": "soft scores are an npz file"}.get(kind, f"{kind} are a PNG")
