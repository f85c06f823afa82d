"""Videos frame by frame, by OpenCV: read from a file or a camera, written to a file that is whole or not there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkd.datasets.image_files import quiet_opencv
from segkd.errors import UserError
from segkd.files import replacing

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # else FFmpeg writes onto the screen; read at its first use
import cv2

from segkd.workbench.sources import LIVE, Source

Image = NDArray[np.uint8]

#: suffix -> codecs that such a file may have, the best first
CODECS = {
    ".mp4": ("avc1", "mp4v"),
    ".m4v": ("avc1", "mp4v"),
    ".mov": ("avc1", "mp4v"),
    ".mkv": ("avc1", "mp4v"),
    ".avi": ("MJPG",),
}
MOST_RATE = 1000


class VideoReader:
    """The frames of an open video or camera.

    Attributes:
        rate: frames per second; None where it doesn't say.
        told: how many frames its header tells of; None where it doesn't, and for a camera.
        size: bytes of a frame.
    """

    def __init__(self, source: Source, capture: Any) -> None:
        self.source, self.capture = source, capture
        rate, told = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = float(rate) if math.isfinite(rate) and 0 < rate <= MOST_RATE else None
        self.told = int(told) if source.kind != LIVE and math.isfinite(told) and told > 0 else None
        self.size = 3 * int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) * int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.shape: tuple[int, ...] | None = None

    def read(self) -> Image | None:
        """The next frame (H, W, 3) uint8 RGB; None at the end.

        Raises:
            UserError: there is none at all, or it has another size than the first.
        """
        got, frame = self.capture.read()
        if not got:
            if self.shape is None:
                raise UserError(f"{self.source} gives no frame: {_cure(self.source)}")
            return None
        if self.shape not in (None, frame.shape):
            raise UserError(f"{self.source} changes its size, from {self.shape[:2]} to {frame.shape[:2]}: cut it there")
        self.shape = frame.shape
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Let go of the file or camera."""
        self.capture.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_video(source: Source) -> VideoReader:
    """A video file or camera, ready to read.

    Raises:
        UserError: it can't be opened.
    """
    if source.kind != LIVE and not os.access(source.given, os.R_OK):
        raise UserError(f"{source} cannot be read: you have no permission, or it is not there")
    with quiet_opencv():
        capture = cv2.VideoCapture(source.given)
    if not capture.isOpened():
        raise UserError(f"{source} cannot be opened: {_cure(source)}")
    return VideoReader(source, capture)


def _cure(source: Source) -> str:
    if source.kind == LIVE:
        return "is a camera of this number connected, and free? Others are camera:0, camera:1, ..."
    return "it is no video, or a damaged one, or OpenCV here lacks its codec (ffmpeg -i FILE NEW.mp4 helps)"


class VideoFile:
    """A video that is being written.

    Attributes:
        codec: by its four letters, such as "mp4v".
        frames: how many have been written.
    """

    def __init__(self, path: Path, shown: Path, size: tuple[int, int], rate: float) -> None:
        self.path, self.size = path, size
        self.frames = 0
        self.codec, self.writer = _opened(path, shown, (size[1] + size[1] % 2, size[0] + size[0] % 2), rate)

    def write(self, frame: Image) -> None:
        """Add a frame (H, W, 3) uint8 RGB; of an odd side, the last pixel is repeated, as codecs take even ones."""
        height, width = frame.shape[:2]
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if height % 2 or width % 2:
            bgr = cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self.writer.write(bgr)
        self.frames += 1


@contextmanager
def writing_video(path: Path, size: tuple[int, int], rate: float) -> Iterator[VideoFile]:
    """A video file of frames of ``size`` (H, W), under its name when the block ends well and all frames are in it.

    Raises:
        UserError: OpenCV can't write such a video here.
        OSError: not all could be written, as on a full disk.
    """
    with replacing(path) as temporary:
        video = VideoFile(temporary, path, size, rate)
        try:
            yield video
        finally:
            video.writer.release()
        written = count_frames(temporary)
        if written != video.frames:  # OpenCV says nothing of errors
            raise OSError(28, f"{written} of {video.frames} frames could be written; is the disk full?", str(path))


def count_frames(path: Path) -> int:
    """How many frames the header of a video file tells of; 0 of what is none."""
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


def _opened(path: Path, shown: Path, size: tuple[int, int], rate: float) -> tuple[str, Any]:
    """The first codec of the file's suffix that works here."""
    codecs = CODECS[path.suffix.lower()]
    for codec in codecs:
        with quiet_opencv():
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
        if writer.isOpened():
            return codec, writer
    raise UserError(
        f"cannot write {shown}: OpenCV here has no encoder ({' or '.join(codecs)}) for {size[0]}x{size[1]} pixels at "
        f"{rate:g} frames per second; name it ....avi, or write frames: --write ids"
    )
