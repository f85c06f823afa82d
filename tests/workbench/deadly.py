"""Networks for tests of processes: some that end the one in which they run, or fail in it, and a small one."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from torch import Tensor, nn

from segkd.deploy.runtimes import TorchRuntime
from segkd.models import Network


class Deadly(nn.Module):
    """A network of two classes whose call with real images ends the process.

    Args:
        end: "segv", "abort", "exit", or "raise", which fails and lives on.
    """

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end, self.num_classes = end, 2

    def preprocess(self, image: Tensor) -> Tensor:
        return image.float()

    def forward(self, x: Tensor) -> Tensor:
        if self.end == "raise":
            raise RuntimeError("no such kernel\nat line 3")
        os.write(2, b"free(): invalid pointer\n")
        if self.end == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGSEGV if self.end == "segv" else signal.SIGABRT)
        return x


class Small(Network):
    """One convolution, two classes."""

    def __init__(self) -> None:
        super().__init__(2)
        self.classifier = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)


def deadly(end: str) -> TorchRuntime:
    """A runtime of such a network."""
    return TorchRuntime(Deadly(end))


def dies_at_opening() -> Any:
    """An opener that ends the process; a test's own is spared, and says so."""
    if "pytest" in sys.modules:
        raise RuntimeError("opened in the process of the tests, not in one of its own")
    os.kill(os.getpid(), signal.SIGKILL)


def alive() -> TorchRuntime:
    """A runtime of a small network that works."""
    return TorchRuntime(Small(), threads=1)
