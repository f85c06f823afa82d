"""Predictions written by threads behind the network: images one by one, videos frame by frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from segkd.errors import UserError
from segkd.files import remove_unfinished, replacing
from segkd.report.pictures import Image
from segkd.workbench.outputs import KINDS, Layout, Style
from segkd.workbench.prediction import Prediction
from segkd.workbench.reading import Picture
from segkd.workbench.sources import STILL, Source
from segkd.workbench.videos import VideoFile, VideoReader, writing_video

BEHIND = 8  # images, if they are small
BUDGET = 256 << 20  # bytes of predictions that wait to be written, unless a single one has more
WRITERS = 2

Drawn = tuple[dict[str, Image], NDArray[np.int64]]  # a frame's pictures by their kinds, pixels of each class


@dataclass
class Written:
    """What was written of one source.

    Attributes:
        source: it.
        files: the files, or the folders of frames.
        size: (H, W) of its images.
        counts: pixels of each class.
        frames: how many a video had; None of an image.
        video: that video.
        rate: frames per second of the video that was written.
        codec: of the video that was written, by its four letters.
    """

    source: Source
    files: list[Path]
    size: tuple[int, int]
    counts: NDArray[np.int64]
    frames: int | None = None
    video: VideoReader | None = None
    rate: float | None = None
    codec: str | None = None


class Writer:
    """Writes predictions, in a `with` block: what was handed over is there at its end.

    After an error, images that were handed over are still written; a video that isn't complete is not there.

    Args:
        layout, style: where to, and how pictures look.
        rate: frames per second of videos (default: their own).
        done: called with each source of which all is written.
    """

    def __init__(self, layout: Layout, style: Style, rate: float | None, done: Callable[[Written], object]) -> None:
        self.layout, self.style, self.rate, self.done = layout, style, rate, done
        self.pool = ThreadPoolExecutor(WRITERS, "segkd-write")
        self.single = ThreadPoolExecutor(1, "segkd-film")
        self.pending: deque[tuple[Future[Written | None], int]] = deque()
        self.size = 0
        self.film: _Film | None = None
        self.swept: set[Path] = set()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self.end_source()
            elif self.film is not None:
                self.drop_source(self.film.source)
            if not isinstance(error, KeyboardInterrupt):
                self._settle()
        finally:
            self.pool.shutdown(cancel_futures=True)
            self.single.shutdown()

    def put(self, picture: Picture, seen: Prediction) -> None:
        """Hand over one prediction; waits while too many are on their way."""
        size = picture.image.nbytes + seen.label.nbytes + (0 if seen.scores is None else seen.scores.nbytes)
        while self.pending and (len(self.pending) >= BEHIND or self.size + size > BUDGET):
            self._first()
        self._sweep(picture)
        if picture.source.kind in STILL:
            self.end_source()
            self._later(self.pool.submit(self._image, picture.source, seen), size)
            return
        if self.film is None or self.film.source is not picture.source:
            self.end_source()
            self.film = _Film(picture, self.layout, self.style, self.rate, len(seen.class_names))
        self._later(self._frame(self.film, seen), size)

    def end_source(self) -> None:
        """Complete the video that is being written, if there is one."""
        film, self.film = self.film, None
        if film is None:
            return
        try:
            self._settle()
        except BaseException:
            self.single.submit(film.drop).result()
            raise
        self.single.submit(film.close).result()
        self.done(film.written)

    def drop_source(self, source: Source) -> None:
        """Leave out a source that turned out to be bad; another one's video that is being written is complete."""
        if self.film is None or self.film.source is not source:
            self.end_source()
            return
        film, self.film = self.film, None
        self.single.submit(film.drop).result()

    def _later(self, future: Future[Written | None], size: int) -> None:
        self.pending.append((future, size))
        self.size += size

    def _first(self) -> None:
        """Wait for what was handed over first; its error is raised here."""
        future, size = self.pending.popleft()
        self.size -= size
        written = future.result()
        if written is not None:
            self.done(written)

    def _settle(self) -> None:
        while self.pending:
            self._first()

    def _image(self, source: Source, seen: Prediction) -> Written:
        files = []
        for kind in self.layout.kinds:
            file = self.layout.file(kind, source)
            self._save(file, kind, seen)
            files.append(file)
        height, width = seen.label.shape
        return Written(source, files, (height, width), seen.counts())

    def _frame(self, film: _Film, seen: Prediction) -> Future[Written | None]:
        """Draw a frame in any thread; put it into its video in the one thread that keeps the order."""
        drawn = self.pool.submit(self._drawn, film.source, seen)
        return self.single.submit(film.add, drawn)

    def _drawn(self, source: Source, seen: Prediction) -> Drawn:
        pictures: dict[str, Image] = {}
        for kind in self.layout.kinds:
            draw = KINDS[kind].frame
            if draw is not None:
                pictures[kind] = draw(seen, self.style)
            else:
                self._save(self.layout.file(kind, source, seen.frame), kind, seen)
        return pictures, seen.counts()

    def _save(self, file: Path, kind: str, seen: Prediction) -> None:
        if self.style.keep and file.exists():
            return
        data = KINDS[kind].encode(seen, self.style)
        with replacing(file, sweep=False) as temporary:
            temporary.write_bytes(data)

    def _sweep(self, picture: Picture) -> None:
        """Remove what killed processes have left in folders, once; before any thread writes there."""
        for kind in self.layout.kinds:
            folder = self.layout.file(kind, picture.source, picture.frame).parent
            if folder not in self.swept:
                self.swept.add(folder)
                remove_unfinished(folder)


class _Film:
    """The results of one video that is being segmented."""

    def __init__(self, picture: Picture, layout: Layout, style: Style, rate: float | None, classes: int) -> None:
        assert picture.video is not None
        self.source, self.layout, self.style = picture.source, layout, style
        self.rate = rate or picture.video.rate
        files = list(layout.places(picture.source))
        counts = np.zeros(classes, np.int64)
        height, width = picture.image.shape[:2]
        self.written = Written(self.source, files, (height, width), counts, 0, picture.video, self.rate)
        self.stack = ExitStack()
        self.videos: dict[str, VideoFile | None] = {}

    def add(self, drawn: Future[Drawn]) -> None:
        """Write the next frame of each kind."""
        pictures, counts = drawn.result()
        for kind, picture in pictures.items():
            if kind not in self.videos:
                self.videos[kind] = self._opened(kind, picture)
            if (video := self.videos[kind]) is not None:
                video.write(picture)
        self.written.counts += counts
        self.written.frames = (self.written.frames or 0) + 1

    def _opened(self, kind: str, picture: Image) -> VideoFile | None:
        if self.rate is None:
            raise UserError(f"{self.source} doesn't say its frames per second: give --fps")
        file = self.layout.file(kind, self.source)
        if self.style.keep and file.exists():
            return None
        height, width = picture.shape[:2]
        video = self.stack.enter_context(writing_video(file, (height, width), self.rate))
        self.written.codec = video.codec
        return video

    def close(self) -> None:
        """Put the videos under their names."""
        self.stack.close()

    def drop(self) -> None:
        """Remove the unfinished videos."""
        try:
            self.stack.__exit__(_DroppedError, _DroppedError(), None)
        except _DroppedError:
            return


class _DroppedError(Exception):
    """A video is not to be kept."""
