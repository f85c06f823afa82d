"""The whole of ``segkd predict``: sources segmented and written, image by image, with what went wrong and the sums."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segkd.errors import UserError
from segkd.evaluation.looking import Views as Views
from segkd.files import replacing, writable_file
from segkd.report.legends import legend as legend_picture
from segkd.report.pictures import write_png
from segkd.workbench import Progress, silent
from segkd.workbench.outputs import (
    LEGENDS,
    Layout,
    Style,
    check_cityscapes,
    check_kinds,
    default_folder,
    is_filmed,
    lay_out,
)
from segkd.workbench.prediction import Segmented, Share, segment, shares_of
from segkd.workbench.predictors import Predictor
from segkd.workbench.reading import Bad, read_ahead
from segkd.workbench.sources import LIVE, STILL, VIDEO, Source, find_sources
from segkd.workbench.writing import Writer, Written


class Plan(NamedTuple):
    """What is to be done, all of it checked as far as it can be before the work.

    sources: what is still to be segmented.
    done: how many were left out, as their results are there.
    layout, style: where results go, and how they look.
    legend: the file of the legend, if there is to be one.
    json: the file that takes the shares of the classes.
    """

    sources: list[Source]
    done: int
    layout: Layout
    style: Style
    legend: Path | None
    json: Path | None


@dataclass
class Predicted:
    """What was done.

    Attributes:
        out: the file or folder of the results.
        images, videos, frames: how many were segmented; frames are those of videos.
        done: sources left out, as their results were there.
        bad: sources that could not be read, and why.
        notes: what else is worth knowing.
        files: how many were written.
        shares: of all pixels, the largest first.
        seconds: from the first image to the last file.
        codecs: of the videos that were written, by their four letters.
    """

    out: Path
    images: int = 0
    videos: int = 0
    frames: int = 0
    done: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    shares: list[Share] = field(default_factory=list)
    seconds: float = 0.0
    codecs: set[str] = field(default_factory=set)

    @property
    def rate(self) -> float:
        """Images and frames per second."""
        return (self.images + self.frames) / max(self.seconds, 1e-9)


def plan(
    given: Any,
    *,
    out: str | Path | None = None,
    write: str | Sequence[str] = "overlay",
    alpha: float = 0.5,
    legend: str | None = None,
    json: str | Path | None = None,
    force: bool = False,
    skip_done: bool = False,
) -> Plan:
    """What ``segkd predict`` is asked for, found and checked; nothing is read or written yet.

    Args:
        given: see ``segkd.workbench.sources.find_sources``.
        out, write, alpha, legend, json, force, skip_done: see ``segkd.predict``.

    Raises:
        UserError: no such source, nothing to segment, results that are there already, that can't be written, or that
            would be written over what is segmented.
    """
    words = list(given) if isinstance(given, list | tuple) else [given]
    if legend not in (None, *LEGENDS):
        raise UserError(
            f"a legend is {LEGENDS[0]!r}, a PNG of its own, or {LEGENDS[1]!r}, in the overlays; got {legend!r}"
        )
    if force and skip_done:
        raise UserError("force writes all results anew, skip_done keeps those that are there: take one of them")
    kinds = check_kinds(write)
    if legend == "beside" and "overlay" not in kinds:
        raise UserError("a legend beside is one of overlays: write overlay, too, or give the legend a file of its own")
    sources = find_sources(words, Path(out) if out is not None else default_folder(words))
    layout = lay_out(words, sources, kinds, out)
    legend_file = layout.legend if legend == "file" else None
    json_file = None if json is None else writable_file(json)
    _spare_the_sources(sources, layout, [file for file in (legend_file, json_file) if file is not None])
    left = [source for source in sources if not (skip_done and _is_done(source, layout))]
    if not force:
        _refuse_what_is_there(() if skip_done else left, layout, [json_file, None if skip_done else legend_file])
    if skip_done and legend_file is not None and legend_file.exists():
        legend_file = None
    style = Style(alpha, legend == "beside", keep=skip_done)
    return Plan(left, len(sources) - len(left), layout, style, legend_file, json_file)


def _spare_the_sources(sources: Sequence[Source], layout: Layout, extra: Sequence[Path]) -> None:
    """Refuse results that would be written over a source, by whatever links."""
    places = [*(place for source in sources for place in layout.places(source)), *extra]
    there = {_identity(place): place for place in places if place.exists()}
    if not there:
        return
    for source in sources:
        if source.file is not None and source.file.exists() and (place := there.get(_identity(source.file))):
            what = "video" if source.kind == VIDEO else "image"
            raise UserError(f"cannot write {place}: it is the {what} itself; name another file or folder")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_done(source: Source, layout: Layout) -> bool:
    """True if all is there; of frames that are files of their own it isn't known which there should be."""
    if source.kind not in STILL and not all(map(is_filmed, layout.kinds)):
        return False
    return all(place.exists() for place in layout.places(source))


def _refuse_what_is_there(sources: Sequence[Source], layout: Layout, extra: Sequence[Path | None]) -> None:
    places = (place for source in sources for place in layout.places(source))
    for place in chain(places, (file for file in extra if file is not None)):
        if place.exists() or place.is_symlink():
            raise UserError(f"{place} is there already: --force writes over it, --skip-done keeps what is there")


def carry_out(
    plan: Plan,
    predictor: Predictor,
    *,
    batch: int = 1,
    views: Views | None = None,
    frames: int | None = None,
    fps: float | None = None,
    skip_bad: bool = False,
    upright: bool = True,
    white: float | None = None,
    progress: Progress = silent,
) -> Predicted:
    """Segment and write all that is planned.

    Ctrl-C ends a camera's video well; elsewhere it stops the work, and a video that isn't complete is not there.

    Args:
        plan: see `plan`.
        predictor: the model.
        batch, views: see ``segkd.workbench.prediction.segment``.
        frames: of each video or camera, at most so many.
        fps: frames per second of the videos that are written (default: as they come).
        skip_bad: go on after what can't be read; it is in ``bad`` then.
        upright, white: how images are read, see ``segkd.datasets.image_files.read_image``.
        progress: told of the images.

    Raises:
        UserError: something can't be read; what came before it is written then.
    """
    kinds, classes = plan.layout.kinds, predictor.classes
    if "cityscapes" in kinds:
        check_cityscapes(classes)
    started = time.perf_counter()
    total = np.zeros(len(classes.names), np.int64)
    found = Predicted(plan.layout.out, done=plan.done)
    if plan.legend is not None:
        write_png(plan.legend, legend_picture(list(zip(classes.names, classes.palette, strict=True))))
        found.files += 1
    with _Rows(plan.json) as rows:

        def done(written: Written) -> None:
            _count(found, total, written, frames)
            rows.add(_row(written, classes.names))

        reads = read_ahead(plan.sources, frames, upright, white, predictor.runtime.channels)
        with Writer(plan.layout, plan.style, fps, done) as writer, closing(reads):
            seen = segment(predictor, reads, batch=batch, views=views, scores="soft" in kinds)
            _go(seen, writer, found, skip_bad, _Watch(plan.sources, frames, progress))
        found.seconds = time.perf_counter() - started
        found.shares = shares_of(total, classes.names, classes.palette)
        rows.end({"shares": _shares(total, classes.names), "bad": dict(found.bad), "notes": found.notes})
    return found


def _go(seen: Iterator[Segmented | Bad], writer: Writer, found: Predicted, skip_bad: bool, watch: _Watch) -> None:
    source = None
    try:
        for one in seen:
            if isinstance(one, Bad):
                if not skip_bad:
                    raise one.error
                writer.drop_source(one.source)
                found.bad.append((str(one.source), " ".join(str(one.error).split())))
            else:
                source = one.picture.source
                writer.put(one.picture, one.seen)
            watch.one_more(one)
    except KeyboardInterrupt:
        if source is None or source.kind != LIVE:
            raise
        found.notes.append(f"{source}: ended by Ctrl-C")


class _Watch:
    """How far the work is."""

    def __init__(self, sources: Sequence[Source], frames: int | None, progress: Progress) -> None:
        self.total = len(sources) if all(source.kind in STILL for source in sources) else None
        self.alone, self.frames = len(sources) == 1, frames
        self.progress, self.done = progress, 0
        progress("segmenting", 0, self.total)

    def one_more(self, one: Segmented | Bad) -> None:
        """One more image or frame is segmented."""
        self.done += 1
        if self.alone and isinstance(one, Segmented) and one.picture.video is not None:
            self.total = self.frames or one.picture.video.told
        self.progress("segmenting", self.done, self.total)


def _count(found: Predicted, total: NDArray[np.int64], written: Written, frames: int | None) -> None:
    total += written.counts
    found.files += len(written.files)
    if written.video is None:
        found.images += 1
        return
    found.videos += 1
    found.codecs |= {written.codec} if written.codec else set()
    found.frames += written.frames or 0
    told = written.video.told
    if told is not None and told != written.frames and frames is None:
        found.notes.append(f"{written.source}: {written.frames} frames could be read; its header tells of {told}")


def _row(written: Written, names: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "source": str(written.source),
        "size": list(written.size),
        "files": [str(file) for file in written.files],
        "shares": _shares(written.counts, names),
    }
    if written.video is not None:
        row |= {"frames": written.frames, "fps": written.rate, "codec": written.codec}
    return row


def _shares(counts: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    return {share.name: round(share.percent, 4) for share in shares_of(counts, names, [(0, 0, 0)] * len(names))}


class _Rows:
    """A JSON object with a list of rows, written as they come: they may be many."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.count = path, 0
        self.stack = ExitStack()
        self.stream: IO[str] | None = None

    def __enter__(self) -> _Rows:
        if self.path is not None:
            temporary = self.stack.enter_context(replacing(self.path))
            self.stream = self.stack.enter_context(temporary.open("w", encoding="utf-8"))
            self.stream.write('{"results": [')
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        if self.stream is not None:
            self.stream.write(("," if self.count else "") + "\n" + json.dumps(row))
            self.count += 1

    def end(self, rest: Mapping[str, Any]) -> None:
        """Write what comes after the rows."""
        if self.stream is not None:
            self.stream.write("\n], " + json.dumps(rest)[1:] + "\n")
