"""Images of files and videos, read ahead by threads while the network is at work."""

from __future__ import annotations

import struct
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import NamedTuple

import PIL.Image

from segkd.datasets.base import RGB
from segkd.errors import UserError
from segkd.workbench.sources import STILL, Image, Source
from segkd.workbench.videos import VideoReader, open_video

AHEAD = 8  # images, if they are small
BUDGET = 256 << 20  # bytes of images that wait to be segmented, unless a single one has more
READERS = 2


class Picture(NamedTuple):
    """One image to segment.

    source: what it comes from.
    image: (H, W, C) uint8, the first three bands RGB.
    frame: its number in a video, from 0; None for an image.
    video: that video.
    """

    source: Source
    image: Image
    frame: int | None = None
    video: VideoReader | None = None


class Bad(NamedTuple):
    """A source, or the rest of one, that could not be read, and why."""

    source: Source
    error: UserError


Read = Picture | Bad


def read_ahead(
    sources: Sequence[Source],
    frames: int | None = None,
    upright: bool = True,
    white: float | None = None,
    channels: int = RGB,
) -> Generator[Read, None, None]:
    """The images of all sources in order, read by threads before they are asked for; what can't be read, as a `Bad`.

    Args:
        sources: what to read.
        frames: of each video, at most so many.
        upright, white, channels: of images, see ``segkd.datasets.image_files.read_image``.
    """
    with ThreadPoolExecutor(READERS, "segkd-read") as pool, ThreadPoolExecutor(1, "segkd-video") as single:
        queue = _Queue()
        try:
            yield from _all(sources, frames, queue, (pool, single), (upright, white, channels))
        finally:
            queue.drop()


class _Waiting(NamedTuple):
    source: Source
    frame: int | None
    read: Future[Image | None]
    size: int  # bytes


class _Queue:
    """Reads under way, in order, as many as the memory for them allows."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.size = 0

    def has_room(self, size: int) -> bool:
        """True if an image of so many bytes may be read."""
        return not self.waiting or (len(self.waiting) < AHEAD and self.size + size <= BUDGET)

    def add(self, source: Source, frame: int | None, read: Future[Image | None], size: int) -> None:
        """Put one more at the end."""
        self.waiting.append(_Waiting(source, frame, read, size))
        self.size += size

    def first(self, video: VideoReader | None = None) -> Read | None:
        """What was asked for first; None at a video's end."""
        first = self.waiting.popleft()
        self.size -= first.size
        try:
            image = first.read.result()
        except UserError as error:
            return Bad(first.source, error)
        return None if image is None else Picture(first.source, image, first.frame, video)

    def drop(self) -> None:
        """Leave out whatever is not asked for any more."""
        for waiting in self.waiting:
            waiting.read.cancel()
        self.waiting.clear()
        self.size = 0


def _size(source: Source) -> int:
    """Bytes of an image in memory, by the head of its file; 0 where that doesn't tell."""
    if source.file is None:
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(source.file) as head:
                return 3 * head.width * head.height
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):  # told when it is read
        return 0
    except PIL.Image.DecompressionBombError:
        return BUDGET


def _all(
    sources: Sequence[Source],
    frames: int | None,
    queue: _Queue,
    pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor],
    way: tuple[bool, float | None, int],
) -> Iterator[Read]:
    pool, single = pools
    for source in sources:
        if source.kind in STILL:
            size = _size(source)
            while not queue.has_room(size):
                yield from _some(queue.first())
            queue.add(source, None, pool.submit(source.image, *way), size)
            continue
        while queue.waiting:
            yield from _some(queue.first())
        if way[2] != RGB:
            yield Bad(source, UserError(f"{source}: a video has 3 bands, and the model takes images of {way[2]}"))
            continue
        yield from _video(source, frames, queue, single)
    while queue.waiting:
        yield from _some(queue.first())


def _some(read: Read | None) -> Iterator[Read]:
    if read is not None:
        yield read


def _video(source: Source, frames: int | None, queue: _Queue, single: ThreadPoolExecutor) -> Iterator[Read]:
    """The frames of a video, decoded in order by one thread."""
    try:
        video = single.submit(open_video, source).result()
    except UserError as error:
        yield Bad(source, error)
        return
    try:
        for number in count():
            if frames is not None and number >= frames:
                break
            while not queue.has_room(video.size):
                read = queue.first(video)
                if not isinstance(read, Picture):
                    yield from _some(read)
                    return
                yield read
            queue.add(source, number, single.submit(video.read), video.size)
        while queue.waiting:
            yield from _some(queue.first(video))
    finally:
        queue.drop()
        single.submit(video.close).result()
