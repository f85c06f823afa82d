"""Models in processes of their own: what ends one spoils no other, and idle ones take no time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from deadly import Deadly, Small, alive, deadly, dies_at_opening

import segkd
from segkd.deploy.onnx import export_onnx
from segkd.deploy.runtimes import OnnxRuntime, TorchRuntime
from segkd.errors import UserError
from segkd.face.run import Comparison
from segkd.workbench.bench import bench_apart
from segkd.workbench.isolation import Processes, RemoteRuntime, _ending
from segkd.workbench.timing import common_size, random_image, time_models

SIZE = (32, 64)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apart") / "net.onnx"
    export_onnx(Small(), path, SIZE, check_batches=(1,))
    return path


@pytest.fixture(scope="module")
def own(file: Path) -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


def test_a_remote_runtime_is_the_runtime(own: Processes, file: Path) -> None:
    here = OnnxRuntime(file)
    there = own.open("file", partial(OnnxRuntime, file))
    assert isinstance(there, RemoteRuntime)
    for name in ("name", "num_classes", "size", "file_size", "metadata", "output", "device", "resize"):
        assert getattr(there, name) == getattr(here, name)
    image = random_image(SIZE, 2)
    torch.testing.assert_close(there.predict(image), here.predict(image), rtol=0, atol=0)
    assert torch.equal(there.labels(image), here.labels(image))
    with pytest.raises(UserError, match="images must be"):
        there.predict(image.float())
    assert common_size({"file": there}) == SIZE
    sent = own.open("sent", here, there.process)  # opened there anew
    assert isinstance(sent, RemoteRuntime)
    assert torch.equal(sent.labels(image), here.labels(image))
    with pytest.raises(UserError, match="ONNX file not found"):
        own.open("nothing", partial(OnnxRuntime, file.with_name("nothing.onnx")), there.process)
    _is_idle(there.process.process.pid)


def _is_idle(pid: int) -> None:
    """Less than a tenth of one core, although it has computed with two threads just now."""
    process = psutil.Process(pid)
    before, start = sum(process.cpu_times()[:2]), time.perf_counter()
    time.sleep(0.5)
    assert sum(process.cpu_times()[:2]) - before < 0.1 * (time.perf_counter() - start)


@pytest.mark.parametrize(
    ("code", "told"),
    [(-6, "was ended by SIGABRT"), (3, "ended with exit code 3"), (-99, "was ended by signal 99")],
)
def test_how_a_process_has_ended(code: int, told: str) -> None:
    assert _ending(code) == told


def test_a_bench_goes_on_without_the_dead(file: Path) -> None:
    dead = {"dead at birth": dies_at_opening, "dies": partial(deadly, "segv"), "fails": partial(deadly, "raise")}
    sources = {**dead, "file": partial(OnnxRuntime, file)}
    found = bench_apart(
        lambda threads: {**sources, "torch": alive()}, None, lambda: SIZE, batches=(1, 2), threads=(1, 2), repeats=2
    )
    rows = {row["name"]: row for row in found.rows}
    assert rows["dead at birth"]["crashed"] == "its process was ended by SIGKILL"
    assert rows["dies"] == {"name": "dies", "crashed": "its process was ended by SIGSEGV (free(): invalid pointer)"}
    assert rows["fails"]["crashed"] == "failed (RuntimeError: no such kernel)"
    assert rows["file"]["latency_ms"] > 0
    assert rows["file"]["peak_memory_mib"] > 0
    assert found.failure.startswith("3 of 5 models could not be timed: dead at birth: its process was ended by SIG")
    assert rows["file"]["macs"] == rows["torch"]["macs"] > 0  # of the network beside it
    assert [(row["name"], row["threads"], row["batch"]) for row in found.scaling] == [
        (name, threads, batch) for name in ("file", "torch") for threads in (1, 2) for batch in (1, 2)
    ]
    for row in found.scaling:
        first = next(other for other in found.scaling if other["name"] == row["name"])
        assert row["fps"] == pytest.approx(1000 * row["batch"] / row["latency_ms"])
        assert row["scaling"] == pytest.approx(row["fps"] / first["fps"])
    assert not found.shared


def test_a_class_that_only_this_process_knows_is_timed_here() -> None:
    class Local(Deadly):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2]

    found = bench_apart(lambda threads: {"mine": TorchRuntime(Local("raise"))}, SIZE, lambda: SIZE, repeats=2)
    assert found.shared == ["mine"]
    assert found.rows[0]["latency_ms"] > 0


def test_python_shows_what_crashed() -> None:
    found = segkd.bench({"bad": Deadly("segv")}, size=SIZE, batch=[1, 2], repeats=2, progress=False)
    assert "bad: its process was ended by SIGSEGV" in repr(found)
    row = {"name": "file", "threads": 1, "batch": 2, "latency_ms": 4.0, "image_ms": 2.0, "fps": 500.0, "scaling": 1.5}
    told = repr(Comparison([{"name": "file", "latency_ms": 3.0}], scaling=[row]))
    assert told.splitlines()[-1].split() == ["file", "1", "2", "4.0", "2.0", "500.0", "1.50"]


def test_files_for_another_number_of_images(tmp_path: Path) -> None:
    export_onnx(Small(), tmp_path / "one.onnx", SIZE, batch=1)
    runtime = OnnxRuntime(tmp_path / "one.onnx")
    with pytest.raises(UserError, match="takes 1 images a call, not 2"):
        runtime.labels(random_image(SIZE, 2))
    with pytest.raises(UserError, match=r"one\.onnx takes 1 images a call, not 4: export one without --batch"):
        time_models({"one.onnx": runtime}, SIZE, batch=4)
