"""What the C library keeps of freed memory is used again: no page of a large tensor is cleared twice."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from segkd.memory import keep_freed_memory
torch.set_num_threads(1)
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def take():
    torch.ones(8, 1024, 1024)  # 32 MiB, 8192 pages
for _ in range(10):
    take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    take()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str, **variables: str) -> tuple[str, int]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS, mode]
    out = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True, timeout=120)
    kept, count = out.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_pages_are_used_again() -> None:
    assert faults("leave")[1] > 40_000  # 10 x 8192 pages
    kept, count = faults("keep")
    assert kept == "True"
    assert count < 4_000
    assert faults("keep", MALLOC_ARENA_MAX="2")[0] == "False"  # the user's own tuning stands


GIVEN = """
import torch
from pathlib import Path
from segkd.memory import keep_freed_memory, return_freed_memory
def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if "RssAnon" in line).split()[1])
keep_freed_memory()  # as an evaluation of whole images before it
assert return_freed_memory()
before = held()
large = [torch.ones(4, 1024, 1024) for _ in range(8)]  # 16 MiB each
small = torch.ones(1000)  # lies above them where they are in the heap
del large
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux has it")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_blocks_go_back() -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", GIVEN]
    out = subprocess.run(command, env=clean, capture_output=True, text=True, check=True, timeout=120)
    assert int(out.stdout) < 16 * 1024  # KiB
