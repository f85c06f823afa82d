"""What cannot fit into memory is refused before it is tried; what may fit is not."""

from __future__ import annotations

import gc
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_kit import STUDENT, SYNTHETIC, TINY, Refused, Run
from torch import nn

from segkd import memory, models
from segkd.errors import UserError
from segkd.evaluation.speed import measure_memory
from segkd.models.base import Network


class Two(Network):
    """Two convolutions of 8 and 11 channels, and a dropout."""

    def __init__(self) -> None:
        super().__init__(11)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.Dropout2d(), nn.Conv2d(8, 11, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def test_what_is_kept_for_the_backward_pass_is_counted_by_hand() -> None:
    assert memory.kept_per_pixel(Two()) == 4 * (3 + 8)  # the inputs of both convolutions
    network = Two()
    network.layers[0].requires_grad_(False)
    assert memory.kept_per_pixel(network) == 4 * 8
    assert memory.kept_per_pixel(network.requires_grad_(False)) == 0


def test_measuring_leaves_the_network_and_the_generator_as_they_were() -> None:
    network = models.create("fast_scnn", num_classes=11).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    memory.kept_per_pixel(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", ["fast_scnn", "bisenetv2"])
def test_a_training_step_takes_more_than_is_asked_for_but_not_many_times_as_much(name: str) -> None:
    """More: so that nothing is refused that would work."""
    network = models.create(name, num_classes=11).train()
    image = torch.zeros(2, 3, 256, 256, dtype=torch.uint8)
    need = image.numel() / 3 * (memory.INPUT_BYTES + memory.LABEL_BYTES + memory.kept_per_pixel(network)) / 2**20
    found = measure_memory(lambda: network.predict(image).square().mean().backward())
    assert found.method == "vmhwm" or pytest.skip("the peak is not known here")
    assert need < found.mib < 5 * need


def test_ordinary_batches_are_let_through_and_absurd_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device="cpu": 16 * memory.GIB)
    network = models.create("fast_scnn", num_classes=11)
    memory.check_training(network, (512, 1024), 12)
    for size, images in (((100_000, 100_000), 2), ((512, 1024), 100_000), ((512, 1024), 256)):
        with pytest.raises(
            UserError, match=r"needs at least [\d,.]+ GiB of memory, but 16.0 are free; lower data.batch"
        ):
            memory.check_training(network, size, images)
    memory.check_inference(19, (2048, 4096))
    with pytest.raises(UserError, match=r"an image of 99999x99999 \(HxW\): needs at least 84[\d.]+ GiB"):
        memory.check_inference(19, (99999, 99999))


def test_half_precision_is_thought_to_take_half(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Two()
    need = 1_000_000 * (memory.INPUT_BYTES + memory.LABEL_BYTES + 4 * (3 + 8))
    monkeypatch.setattr(memory, "available", lambda device="cpu": need - 1)
    with pytest.raises(UserError, match="1 crops of 1000x1000"):
        memory.check_training(network, (1000, 1000), 1)
    memory.check_training(network, (1000, 1000), 1, half=True)


def test_a_containers_limit_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = memory.available()
    assert free > 0
    (tmp_path / "limit").write_text("4096\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "CGROUP", (str(tmp_path / "none"), str(tmp_path / "nowhere")))
    assert memory.available() > 4096
    monkeypatch.setattr(memory, "CGROUP", (str(tmp_path / "none"), str(tmp_path / "limit")))
    assert memory.available() == 4096


def test_the_command_line_refuses_absurd_sizes_at_once(
    refused: Refused, tree: Path, trained: Path, exported: Path, tmp_path: Path
) -> None:
    train = ["train", *STUDENT, "--root", tree, "--out", tmp_path / "run", *TINY]
    weights, out = trained / "student_last.pth", tmp_path / "out.onnx"
    huge = ["--size", "99999x99999"]
    start = time.perf_counter()
    for argv in (
        [*train, "--set", "data.augment.crop_size=100000,100000"],
        [*train, "--set", "data.batch_size=100000000"],
        ["export", trained, "--weights", weights, *huge, "--out", out],
        ["bench", trained, *huge],
        ["bench", trained, weights, "--batch", "100000000"],
        ["bench", trained, exported, "--batch", "100000000"],
        ["bench", "blocks", *huge],
        ["inspect", trained, *huge],
        ["eval", trained, weights, *huge],
    ):
        assert "GiB of memory, but" in refused(*argv), argv
    assert time.perf_counter() - start < 60
    assert not (tmp_path / "run").exists()
    assert not out.exists()
    for argv, message in (
        ([*train, "--set", "engine.threads=100000"], "engine.threads must be"),
        ([*train, "--set", "data.workers=100000"], "data.workers must be"),
        (["bench", trained, "--threads", "100000"], "too many threads"),
        (["train", *SYNTHETIC, "--set", "data.dataset.size=99999,99999"], "at most 8192"),
    ):
        assert message in refused(*argv), argv


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 GiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore"),
    ],
)
def test_memory_that_runs_out_on_the_way_is_one_line(
    segkd: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def greedy(args: Any) -> None:
        raise error

    monkeypatch.setattr("segkd.cli.configs.run", greedy)
    result = segkd("configs")
    assert result.code == 2
    assert result.err.startswith("segkd configs: error: out of memory: choose a smaller batch, crop or size (")
    assert result.err.count("\n") == 1
