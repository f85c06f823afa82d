"""Files that are given: checked before the work, named in tables; files that are written: never half-written."""

from __future__ import annotations

import glob
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

from segkd.errors import UserError

UNFINISHED = "-unfinished-"  # in the names of temporary files
_MASK = threading.Lock()


@contextmanager
def replacing(path: str | Path, sweep: bool = True) -> Iterator[Path]:
    """A temporary path in ``path``'s folder that becomes ``path`` when the block ends well, and vanishes if it raises.

    The folder is made if it is missing. An earlier file at ``path`` stays as it was until the rename. An error of the
    system (a full disk) names ``path``. Where a library hides it, or Ctrl-C, behind an error of its own, it comes out.
    With ``sweep``, what a killed process has left of it is removed, for which the folder is looked through.
    """
    final = Path(path)
    made = [folder for folder in final.absolute().parents if not folder.exists()]
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _beside(final, sweep) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
            temporary.replace(final)
    except Exception as error:
        with suppress(OSError):  # raised by the first folder that holds something
            for folder in made:
                folder.rmdir()
        reason = None if isinstance(error, UserError) else _reason(error, final.parent)
        if reason is None:
            raise
        if isinstance(reason, KeyboardInterrupt):
            raise reason from None
        raise OSError(reason.errno, reason.strerror, str(final)) from error


@contextmanager
def _beside(final: Path, sweep: bool) -> Iterator[Path]:
    """An empty file in the same folder, locked, removed at the end if it is still there."""
    if sweep:
        remove_unfinished(final.parent, final.name)
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem}{UNFINISHED}", suffix=final.suffix)
    try:
        _lock(handle)
        yield Path(name)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left in a folder of files called ``name``; whoever still writes holds a lock."""
    stem, suffix = ("*", "") if name == "*" else (glob.escape(Path(name).stem), glob.escape(Path(name).suffix))
    for path in folder.glob(f".{stem}{UNFINISHED}????????{suffix or '*'}"):
        with suppress(OSError), open(path, "rb") as file:
            if _lock(file.fileno()):
                path.unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    """Whether an open file could be locked, until it is closed or its process ends; False where none can be."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; a file system without locks; another's lock
        return False
    return True


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context in which an error of the system that is about no file (a full disk, while writing) names ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _reason(error: BaseException | None, folder: Path) -> OSError | KeyboardInterrupt | None:
    """The interrupt or the system's error behind an exception, if that is about no file or about one in the folder."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return error
        if isinstance(error, OSError) and error.errno is not None:
            about = error.filename
            return error if about is None or Path(str(about)).absolute().parent == folder.absolute() else None
        error = error.__cause__ or error.__context__
    return None


def _umask() -> int:
    with _MASK:  # another thread must not take the 0 for the mask
        mask = os.umask(0)
        os.umask(mask)
    return mask


def existing_file(path: str | Path, what: str = "file") -> Path:
    """``path`` if it is a file; else a UserError with what lies beside it under a similar name."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {os.readlink(path)}, which is not there")
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir() if p.suffix == path.suffix] if path.parent.is_dir() else []
        similar = get_close_matches(path.name, beside, n=1, cutoff=0.5)
        raise UserError(f"no such {what}: {path}" + (f"; did you mean {similar[0]!r}?" if similar else ""))
    return path


def existing_onnx(path: str | Path) -> Path:
    """``path`` if it is a file called .onnx."""
    file = existing_file(path, "ONNX file")
    if file.suffix != ".onnx":
        raise UserError(f"{file} is no ONNX file (.onnx); `segkd export` makes one of a student's weights")
    return file


def writable_file(path: str | Path) -> Path:
    """A file that can be written, checked before the work is done whose result it takes."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file in it")
    _check_above(path)
    return path


def writable_onnx(path: str | Path) -> Path:
    """An ONNX file that can be written, checked as by `writable_file`."""
    if Path(path).suffix != ".onnx":
        raise UserError(f"cannot write {path}: an ONNX file's name ends in .onnx")
    return writable_file(path)


def writable_png(path: str | Path) -> Path:
    """The path of a PNG file that can be written; another suffix is a UserError."""
    if Path(path).suffix.lower() != ".png":
        raise UserError(f"{path}: the picture is a PNG: name it {Path(path).with_suffix('.png')}")
    return writable_file(path)


def writable_folder(path: str | Path) -> Path:
    """A folder that exists or can be made, and written to."""
    path = Path(path)
    if path.is_dir():
        _check_above(path / "file")
    elif os.path.lexists(path):
        raise UserError(f"cannot write to {path}: it is no folder")
    else:
        _check_above(path)
    return path


def _check_above(path: Path) -> None:
    above = next(p for p in path.absolute().parents if os.path.lexists(p))
    if not above.is_dir() or not os.access(above, os.W_OK):
        problem = "cannot be written to" if above.is_dir() else "is no folder"
        raise UserError(f"cannot write {path}: {above} {problem}")


def named(files: Sequence[str | Path]) -> dict[str, Path]:
    """Files by the shortest ends of their paths that tell them apart; a file given twice is a UserError."""
    paths = [Path(os.path.abspath(file)) for file in files]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path} is given twice")
    return {_shortest(path, paths): Path(file) for path, file in zip(paths, files, strict=True)}


def _shortest(path: Path, others: Sequence[Path]) -> str:
    for count in range(1, len(path.parts)):
        end = path.parts[-count:]
        if sum(other.parts[-count:] == end for other in others) == 1:
            return "/".join(end)
    return str(path)
