"""Files for phones (.pte) in ExecuTorch, whose kernels for CPUs are XNNPACK's; needs the extra "executorch"."""

from __future__ import annotations

import importlib
import json
import os
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from segkd.deploy.runtimes import LOGITS, METADATA_KEY, Runtime, bands_of, size_of
from segkd.errors import UserError, first_line
from segkd.files import existing_file

SUFFIX = ".pte"


def import_extra(name: str) -> Any:
    """A module of the extra; where it is missing, a UserError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name.partition('.')[0]} is not installed: pip install 'segkd[executorch]'") from error


class ExecutorchRuntime(Runtime):
    """A .pte file that segkd wrote, in ExecuTorch on the CPU: here as on a phone, but for the processor.

    The file takes one image; several are run one after the other.

    Raises:
        UserError: no such file, one that ExecuTorch cannot read or segkd did not write, ExecuTorch missing, another
            number of threads than that of files that are open (ExecuTorch has one pool of them for a process).
    """

    opened: ClassVar[weakref.WeakSet[ExecutorchRuntime]] = weakref.WeakSet()

    def __init__(self, path: str | Path, threads: int = 2, resize: bool = False) -> None:
        super().__init__(resize)
        self.path, self.threads = Path(path), threads
        existing_file(self.path, "ExecuTorch file")
        with quiet_errors():
            self._size_pool()
            self.program = _program(self.path)
            self.metadata = _metadata(self.program, self.path)
            self.method = self.program.load_method("forward")
        self.name = "executorch"
        self.num_classes, self.channels = int(self.metadata["num_classes"]), bands_of(self.metadata)
        self.size = size_of(self.metadata)
        self.output = self.metadata.get("output", LOGITS)
        self.file_size = self.path.stat().st_size
        self.device = torch.device("cpu")
        self.opened.add(self)

    def _size_pool(self) -> None:
        """Give ExecuTorch's pool the number of threads; the files that are open hold on to the pool as it is."""
        others = {runtime.threads for runtime in self.opened}
        if not others:
            import_extra("executorch.extension.pybindings.portable_lib")._unsafe_reset_threadpool(self.threads)
        elif others != {self.threads}:
            raise UserError(
                f"{self.path} cannot have {self.threads} threads: ExecuTorch files that are open in this process "
                f"have {others.pop()}; take as many, or another process"
            )

    def _run(self, image: Tensor) -> Tensor:
        given = [one[None].contiguous() for one in image.cpu()]
        return torch.cat([self.method.execute([one])[0].clone() for one in given])

    def again(self) -> ExecutorchRuntime:
        return ExecutorchRuntime(self.path, self.threads, self.resize)

    def __reduce__(self) -> tuple[Any, ...]:  # a program cannot be pickled
        return type(self), (self.path, self.threads, self.resize)


def _program(path: Path) -> Any:
    runtime = import_extra("executorch.runtime").Runtime.get()
    try:
        return runtime.load_program(str(path))
    except Exception as error:  # its binding's own
        raise UserError(f"ExecuTorch cannot read {path}: {first_line(error)}") from error


def _metadata(program: Any, path: Path) -> dict[str, Any]:
    """What the file says about itself: a method that gives the bytes of a JSON text."""
    if METADATA_KEY not in program.method_names:
        raise UserError(f"{path} was not written by segkd (it has no {METADATA_KEY!r} metadata)")
    text = bytes(program.load_method(METADATA_KEY).execute([])[0].tolist())
    content: dict[str, Any] = json.loads(text)
    return content


@contextmanager
def quiet_errors() -> Iterator[None]:
    """Hold back warnings, and what libraries in C++ write to the stream of errors as they look for the processor."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
