"""Runs a test's function in two processes, which find torch and the trainer imported: that costs seconds."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from typing import Any

from torch.multiprocessing.spawn import start_processes


def two_processes(function: Callable[..., Any], *args: Any) -> None:
    """Calls ``function(rank, *args)`` for ranks 0 and 1 at the same time; what one raises is raised here."""
    set_forkserver_preload(["segkd.training.loop"])
    start_processes(function, args=args, nprocs=2, start_method="forkserver")
