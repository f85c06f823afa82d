"""Models in processes of their own: a crash or a thread pool of one does nothing to the others.

    with Processes() as own:
        model = own.open("student.onnx", partial(open_file, "student.onnx", threads))
        model.labels(images)  # computed there

A process that waits for its turn blocks on a read; its thread pools sleep (ONNX Runtime's by its options, OpenMP's by
``OMP_WAIT_POLICY``).
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segkd.deploy.runtimes import Runtime, TorchRuntime
from segkd.errors import UserError
from segkd.workbench import worker

Opener = Callable[[], Runtime]


class CrashError(UserError):
    """A model's process has ended, or its library has failed, in the midst of a call."""


class SendError(Exception):
    """A model that no other process can hold, as its class lives in the caller's script alone."""


class _RemoteTraceError(Exception):
    """The traceback of an error in another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Process:
    """A process that holds models, each under a key."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        code = f"import sys; sys.path[:] = {sys.path!r}; from segkd.workbench.worker import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )  # fmt: skip
        self.crash = ""

    def call(self, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function says of the model of that key, or, for a new key, open what the function gives.

        Raises:
            CrashError: the process has ended, or the function failed.
            SendError: the function or its arguments are known here alone.
            UserError: as the function raised it.
        """
        if self.crash:
            raise CrashError(self.crash)
        try:
            request = pickle.dumps((key, function, arguments))
        except Exception as error:  # whatever an object's own pickling raises
            raise SendError(str(error)) from error
        kind, value = self._answer(request)
        if kind == worker.UNREADABLE:
            raise SendError(value)
        if kind == worker.REFUSED:
            raise UserError(value)
        if kind == worker.FAILED:
            raise CrashError(f"failed ({value[0]})") from _RemoteTraceError(value[1])
        return value

    def _answer(self, request: bytes) -> worker.Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            worker.send(self.process.stdin, request)
            content = worker.receive(self.process.stdout)
        except BrokenPipeError:
            content = None
        if content is None:
            self.crash = f"its process {_ending(self.process.wait())}{self._last_words()}"
            raise CrashError(self.crash)
        answer: worker.Answer = pickle.loads(content)
        return answer

    def _last_words(self) -> str:
        """The last line that the process wrote, in brackets."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f" ({lines[-1].strip()[:200]})" if lines else ""

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:  # what was not sent any more
                    continue


def _ending(code: int) -> str:
    """How a process has ended, by its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


class RemoteRuntime(Runtime):
    """A runtime that another process holds.

    Attributes:
        process, key: which.
        network: the class's name of a torch network; None for a file.
    """

    def __init__(self, process: Process, key: str) -> None:
        self.process, self.key = process, key
        about = self.call(facts)
        super().__init__(about["resize"])
        self.name, self.num_classes, self.size = about["name"], about["num_classes"], about["size"]
        self.file_size, self.metadata, self.output = about["file_size"], about["metadata"], about["output"]
        self.channels: int = about["channels"]
        self.device: torch.device = about["device"]
        self.network: str | None = about["network"]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module says of the runtime, called with it and the arguments in its process."""
        return self.process.call(self.key, function, *arguments)

    def _answer(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self.call(_answered, image.cpu().numpy()))

    def _run(self, image: Tensor) -> Tensor:
        return self._answer(image)

    def again(self) -> Runtime:
        raise NotImplementedError("what is loaded anew is the runtime in its process: call(function)")


def ask(runtime: Runtime, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module says of a runtime, called in the process that holds it."""
    if isinstance(runtime, RemoteRuntime):
        return runtime.call(function, *arguments)
    return function(runtime, *arguments)


def facts(runtime: Runtime) -> Mapping[str, Any]:
    """What a runtime says of itself."""
    names = ("name", "num_classes", "size", "file_size", "metadata", "output", "device", "resize", "channels")
    return {name: getattr(runtime, name) for name in names} | {"network": network_of(runtime)}


def network_of(runtime: Runtime) -> str | None:
    """The name of a torch network's class; None for a file."""
    if isinstance(runtime, RemoteRuntime):
        return runtime.network  # a name
    return type(runtime.network).__name__ if isinstance(runtime, TorchRuntime) else None


def _answered(runtime: Runtime, image: NDArray[np.uint8]) -> NDArray[Any]:
    given = torch.from_numpy(image)
    answer = runtime.labels(given) if runtime.output == "labels" else runtime.predict(given)
    return np.asarray(answer.cpu().numpy())


def itself(runtime: Runtime) -> Runtime:
    """The runtime; by this one that is here already is opened in another process."""
    return runtime


class Processes:
    """A context in which models are opened in processes of their own, that end with it.

    Attributes:
        crashed: what happened to models that could not be opened, by name.
        shared: names of models that are held by this process, as no other one knows their class.
    """

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.crashed: dict[str, str] = {}
        self.shared: list[str] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes:
            process.close()

    def open(self, name: str, source: Opener | Runtime, process: Process | None = None) -> Runtime | None:
        """A model in a process of its own; None, with its name among ``crashed``, if that ended.

        Args:
            name: of the model.
            source: what opens it there, a function of a module or a ``partial`` of one; or a runtime that is here, of
                which a copy is sent.
            process: one that is open already; a new one unless given.

        Raises:
            UserError: as raised there.
        """
        process = process or self.start()
        opener: Any = (itself, source) if isinstance(source, Runtime) else (source,)
        try:
            process.call(name, *opener)
            return RemoteRuntime(process, name)
        except CrashError as crash:
            self.crashed[name] = str(crash)
            return None
        except SendError:
            self.shared.append(name)
            return source if isinstance(source, Runtime) else source()

    def start(self) -> Process:
        """A process that holds nothing yet."""
        self.processes.append(Process())
        return self.processes[-1]

    def open_all(self, sources: Mapping[str, Opener | Runtime]) -> dict[str, Runtime]:
        """All that can be opened, each in a process of its own."""
        begun = [self.start() for _ in sources]  # all of them import at the same time
        opened = {name: self.open(name, sources[name], process) for name, process in zip(sources, begun, strict=True)}
        return {name: runtime for name, runtime in opened.items() if runtime is not None}
