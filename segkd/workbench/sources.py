"""What is to be segmented, by what a user names: files, folders, patterns, lists, videos, cameras, standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkd.datasets.base import RGB
from segkd.datasets.files import IMAGE_SUFFIXES
from segkd.datasets.image_files import decode_image, read_image
from segkd.errors import UserError
from segkd.files import existing_file

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".m2ts", ".mts", ".3gp",
    ".ogv",
)  # fmt: skip
LIST_SUFFIXES = (".txt", ".lst", ".list")
STDIN = "-"
CAMERA = re.compile(r"camera:(\d+)")
IMAGE, VIDEO, LIVE, PIPE, ARRAY = "image", "video", "camera", "pipe", "array"
STILL = (IMAGE, PIPE, ARRAY)

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to segment.

    Attributes:
        name: what its results are called: a relative path without suffix, with "/" between folders.
        kind: IMAGE or VIDEO (files), LIVE (a camera), PIPE (standard input) or ARRAY.
        given: the file's path, the camera's number, or the image (H, W, C) uint8.
    """

    name: str
    kind: str
    given: Any = field(compare=False)

    def __str__(self) -> str:
        said = {LIVE: f"camera:{self.given}", PIPE: "standard input", ARRAY: self.name}
        return said.get(self.kind) or str(self.given)

    @property
    def file(self) -> Path | None:
        """The file that it is, if it is one."""
        return Path(self.given) if self.kind in (IMAGE, VIDEO) else None

    def image(self, upright: bool = True, white: float | None = None, channels: int = RGB) -> Image:
        """The image (H, W, channels) uint8, of one of the kinds STILL.

        Args:
            upright, white, channels: see ``segkd.datasets.image_files.read_image``.

        Raises:
            UserError: it cannot be read.
        """
        if self.kind == ARRAY:
            array: Image = self.given
            if array.shape[2] != channels:
                raise UserError(f"{self.name} has {array.shape[2]} bands, the model takes images of {channels}")
            return array
        if self.kind == PIPE:
            return decode_image(_piped(), Path(str(self)), upright, white, channels)
        return read_image(Path(self.given), upright, white, channels)


def _piped() -> bytes:
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal: send an image into it, as in `segkd predict - < street.jpg`")
    data = sys.stdin.buffer.read()
    if not data:
        raise UserError("standard input is empty: an image is read from it")
    return data


def find_sources(given: Any, leave_out: Path | None = None) -> list[Source]:
    """All that is meant by what was given, in its order; the files of a folder by their paths.

    Args:
        given: an image file, a folder (and the folders in it), a pattern (``photos/**/*.jpg``), a list file (.txt, one
            image or video on each line), a video file, ``camera:0``, ``-`` (standard input), an image as an array; or
            several of these.
        leave_out: a folder that no folder's files are taken from: that of the results.

    Raises:
        UserError: something that is not there, a folder without an image, two of one name.
    """
    words = list(given) if isinstance(given, list | tuple) else [given]
    if not words:
        raise UserError("nothing to segment: name an image, a folder, a list, a video, camera:0 or -")
    single = _Files(leave_out)
    found: list[Source] = []
    for number, word in enumerate(words):
        if isinstance(word, np.ndarray):
            found.append(Source(f"image_{number:06d}" if len(words) > 1 else "image", ARRAY, _checked(word)))
        elif not isinstance(word, str | os.PathLike):
            raise UserError(f"an image is a file's name or an array (H, W, 3) uint8 RGB, got {type(word).__name__}")
        else:
            found += single.meant_by(str(word), alone=len(words) == 1)
    named = list(_with_names(found))
    _check_names(named)
    return named


def is_one(given: Any, sources: Sequence[Source]) -> bool:
    """True if an image was meant, and not some of which there happens to be one."""
    if isinstance(given, list | tuple) or len(sources) != 1 or sources[0].kind not in STILL:
        return False
    return sources[0].kind != IMAGE or Path(str(given)).expanduser() == sources[0].file


class _Files:
    """The files that words mean; those named one by one have no name yet."""

    def __init__(self, leave_out: Path | None) -> None:
        self.leave_out = leave_out

    def meant_by(self, word: str, alone: bool) -> list[Source]:
        if word == STDIN:
            return [Source("stdin", PIPE, STDIN)]
        if camera := CAMERA.fullmatch(word):
            return [Source(f"camera{camera[1]}", LIVE, int(camera[1]))]
        path = Path(word).expanduser()
        if path.is_dir():
            return _in_folder(path, "" if alone else f"{path.resolve().name}/", self.leave_out)
        if not path.exists() and glob.has_magic(word):
            return self._matching(word)
        if path.suffix.lower() in LIST_SUFFIXES:
            return [_single(file) for file in _listed(path)]
        if word.startswith("camera") and not path.exists():
            raise UserError(f"no camera {word!r}: cameras are camera:0, camera:1, ...")
        return [_single(existing_file(path, "image file"))]

    def _matching(self, pattern: str) -> list[Source]:
        paths = [Path(name) for name in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
        files = [path for path in paths if path.is_file() and _kind(path.name) is not None]
        if not files:
            some = f"; {len(paths)} match, none of them an image or a video" if paths else ""
            raise UserError(f"no image matches {pattern!r}{some}")
        return [_single(file) for file in files]


def _single(file: Path) -> Source:
    return Source("", VIDEO if _kind(file.name) == VIDEO else IMAGE, str(file))


def _kind(name: str) -> str | None:
    """What a file is by its suffix."""
    suffix = os.path.splitext(name)[1].lower()
    return IMAGE if suffix in IMAGE_SUFFIXES else VIDEO if suffix in VIDEO_SUFFIXES else None


def _in_folder(folder: Path, prefix: str, leave_out: Path | None) -> list[Source]:
    found = [
        Source(prefix + os.path.splitext(relative)[0].replace(os.sep, "/"), kind, os.path.join(folder, relative))
        for relative in sorted(_walk(folder, leave_out))
        if (kind := _kind(relative)) is not None
    ]
    if not found:
        raise UserError(f"{folder} holds no image and no video: no file that ends in {', '.join(IMAGE_SUFFIXES)}")
    return found


def _walk(folder: Path, leave_out: Path | None) -> Iterator[str]:
    """Relative paths of all files that are not hidden; links are followed, but never into a folder above."""
    seen = {_identity(leave_out)} if leave_out is not None and leave_out.is_dir() else set()
    for above, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        seen.add(_identity(above))
        folders[:] = [
            name for name in folders if not name.startswith(".") and _identity(os.path.join(above, name)) not in seen
        ]
        for name in files:
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(above, name), folder)


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise UserError(f"cannot look into {error.filename}: {error.strerror}") from error


def _listed(path: Path) -> Iterator[Path]:
    """The files that a list names: by their paths, or by paths from where the list lies."""
    try:
        lines = existing_file(path, "list file").read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} as a list of images: it must be text, a file on each line") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} lists no image: write one on each line")
    for number, line in enumerate(map(str.strip, lines), 1):
        places = (Path(line).expanduser(), path.parent / line)
        file = next((place for place in places if place.is_file()), None) if line else None
        if file is not None:
            yield file
        elif line:
            raise UserError(f"{path}, line {number}: no such file {line!r}, neither here nor in {path.parent}")


def _with_names(found: Iterable[Source]) -> Iterator[Source]:
    """Sources, where those that were named one by one are called by their paths below the folder common to all."""
    found = list(found)
    above = [str(file.absolute().parent) for one in found if not one.name and (file := one.file) is not None]
    common = os.path.commonpath(above) if above else ""
    for one in found:
        if one.name or one.file is None:
            yield one
        else:
            below = Path(os.path.relpath(one.file.absolute(), common)).with_suffix("")
            yield Source(below.as_posix(), one.kind, one.given)


def _check_names(found: Sequence[Source]) -> None:
    """Refuse two images, or two videos, whose results would have one name."""
    taken: dict[tuple[str, bool], Source] = {}
    for one in found:
        other = taken.setdefault((one.name, one.kind in STILL), one)
        if other is one:
            continue
        if str(other) == str(one):
            raise UserError(f"{one} is given twice")
        raise UserError(f"the results of {other} and {one} would both be called {one.name!r}: take one at a time")


def _checked(image: NDArray[Any]) -> Image:
    if image.ndim != 3 or image.shape[2] < RGB or image.dtype != np.uint8:
        raise UserError(f"an image is (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    return image
