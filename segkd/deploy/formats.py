"""Which runtime opens which file, by its suffix, and how the same file is run otherwise: ``FILE@HOW``.

student.pth             torch             @bf16, @channels_last, @compile, several with + between
student.onnx            ONNX Runtime      @cuda, @tensorrt (its providers), @openvino, @openvino-bf16
student.xml             OpenVINO          @bf16
student.pte             ExecuTorch
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from segkd.deploy.executorch import ExecutorchRuntime
from segkd.deploy.openvino import OpenVinoRuntime
from segkd.deploy.runtimes import OnnxRuntime, Runtime, TorchRuntime
from segkd.errors import UserError, nearest
from segkd.files import existing_file

Opener = Callable[[Path, int, bool], Runtime]

#: suffix -> how -> what opens the file, for so many threads, with images resized or not
OPENERS: Mapping[str, Mapping[str, Opener]] = {
    ".onnx": {
        "": OnnxRuntime,
        "cuda": lambda path, threads, resize: OnnxRuntime(path, threads, resize, "CUDAExecutionProvider"),
        "tensorrt": lambda path, threads, resize: OnnxRuntime(path, threads, resize, "TensorrtExecutionProvider"),
        "openvino": OpenVinoRuntime,
        "openvino-bf16": lambda path, threads, resize: OpenVinoRuntime(path, threads, resize, "bf16"),
    },
    ".xml": {
        "": OpenVinoRuntime,
        "bf16": lambda path, threads, resize: OpenVinoRuntime(path, threads, resize, "bf16"),
    },
    ".pte": {"": ExecutorchRuntime},
}


KINDS = {".onnx": "ONNX file", ".xml": "OpenVINO file", ".pte": "ExecuTorch file"}


def split_how(source: str | Path) -> tuple[Path, str]:
    """``FILE@HOW`` as file and way; the way is empty where none is named, or a file has all of it as its name."""
    path = Path(source)
    stem, at, how = path.name.rpartition("@")
    if not at or path.exists():
        return path, ""
    return path.with_name(stem), how


def open_file(source: str | Path, threads: int = 2, resize: bool = False) -> Runtime:
    """A file that predicts: .onnx, .xml or .pte, ``@HOW`` behind it where it is to run otherwise than usual.

    Args:
        source: the file.
        threads: CPU threads.
        resize: take images of any size in a file made for one size (resized there, answers resized back).

    Raises:
        UserError: no such file, an unknown suffix or way, a runtime that is not installed.
    """
    path, how = check_how(source)
    return OPENERS[path.suffix][how](existing_file(path, KINDS[path.suffix]), threads, resize)


def check_how(source: str | Path) -> tuple[Path, str]:
    """``FILE@HOW`` as file and way, both of which are known; else a UserError."""
    path, how = split_how(source)
    openers = OPENERS.get(path.suffix)
    if openers is None:
        raise UserError(f"{path} is not a file that predicts alone ({', '.join(OPENERS)}); weights need their config")
    if how not in openers:
        raise UserError(f"{path} is not run as {how!r}; {nearest(how, [name for name in openers if name])}")
    return path, how


def load_runtime(source: str | Path | nn.Module, threads: int = 2, resize: bool = False) -> Runtime:
    """A network as it is, or a file as ``open_file`` takes it."""
    if isinstance(source, nn.Module):
        return TorchRuntime(source, threads)
    return open_file(source, threads, resize)
